// Infini-attention: softmax inside a segment, beside a linear memory of all segments before it. Munkhdalai et al. 2024,
// arXiv:2404.07143, section 2.1.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, n segments of c positions, D key width, E value width

#include <algorithm>

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "attention/segments.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// Added to the memory's normaliser, which is zero before the first segment ends; not in the paper.
constexpr double infini_epsilon = 1e-6;

/// y_t = g m_t + (1 - g) a_t, g = sigmoid(beta) per head: a_t softmax attention to the keys of t's segment up to t;
/// m_t = phi(q_t) M / (phi(q_t) . z) from the memory that the segments before it left, phi = elu + 1.
///
/// A segment that ends writes M += phi(K)^T V, z += sum phi(k); with `delta_rule` phi(K)^T (V - phi(K) M / (phi(K) .
/// z)), so that what the memory already gives is not added again. In the first segment m is zero, and the gate stays,
/// as the paper's equation has it. beta starts at 0 (the paper does not say). Sums are kept in float32 under bfloat16.
class InfiniAttention : public Attention {
 public:
  struct Options {
    int64_t segment = 64;
    bool delta_rule = false;
    static Fields fields() {
      return {field(&Options::segment, "segment", "positions that share a softmax, and that enter the memory at once")
                  .between(1, 1 << 20)
                  .in("positions"),
              field(&Options::delta_rule, "delta_rule", "write only what the memory does not give already")};
    }
  };

  InfiniAttention(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {
    gate_ = register_parameter("gate", at::zeros({geometry.num_heads}));
  }

  Tensor forward(const Inputs& in) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("infini", in, geometry_, true);
    const auto segments = segments_of(sizes.queries, options_.segment);
    const auto local = local_attention(in, segments);
    if (segments.count == 1) return joined(local, {});
    const int64_t writers = segments.count - 1, c = segments.length;
    const auto found = memories(in, segments);  // [B, G, n - 1, D, E + 1]
    const auto query = query_blocks(features(in.query), sizes.kv_heads, segments).narrow(2, 1, writers);
    const auto read = joined_blocks(normalised(at::matmul(query, found)), sizes.heads, writers * c);
    return joined(local, pad_positions(read, c, sizes.queries - segments.padded()));
  }

  /// The memory, M with z as its last column, and keys and values of the open segment.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    const int64_t groups = geometry_.num_kv_heads, d = geometry_.head_dim, e = geometry_.value_dim;
    const auto type = accumulation_type(c10::typeMetaToScalarType(options.dtype()));
    return {.tensors = {{"memory", at::zeros({batch, groups, d, e + 1}, options.dtype(type))},
                        {"key", at::empty({batch, groups, 0, d}, options)},
                        {"value", at::empty({batch, groups, 0, e}, options)}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("infini", in, geometry_, true);
    auto& memory = state.tensors.at("memory");
    auto& key = state.tensors.at("key");
    auto& value = state.tensors.at("value");
    std::vector<Tensor> outputs;
    for_each_piece(state.length, sizes.queries, options_.segment, [&](int64_t begin, int64_t count) {
      const auto query = in.query.narrow(2, begin, count);
      key = at::cat({key, in.key.narrow(2, begin, count)}, 2);
      value = at::cat({value, in.value.narrow(2, begin, count)}, 2);
      const auto visible = causal_mask(count, key.size(2), key.device());
      const auto rows = query_blocks(features(query), sizes.kv_heads, {1, count});  // [B, G, 1, R c, D]
      const auto read = joined_blocks(normalised(at::matmul(rows, memory.unsqueeze(2))), sizes.heads, count);
      outputs.push_back(joined(softmax_attention(query, key, value, false, visible), read));
      if (key.size(2) < options_.segment) return;
      memory = memory + written(features(key), with_ones(value), memory);
      key = key.narrow(2, 0, 0).clone();
      value = value.narrow(2, 0, 0).clone();
    });
    state.length += sizes.queries;
    return at::cat(outputs, 2);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto phi = [](const Tensor& x) { return at::where(x > 0, x + 1, at::exp(at::where(x > 0, 0 * x, x))); };
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto mapped_query = rows_of(phi(in_double(in.query))), mapped_key = rows_of(phi(in_double(in.key)));
    const auto gates = (1 / (1 + (-in_double(gate_)).exp())).unbind(0);
    Tensor memory, normaliser;  // [D, E], [D]
    const auto retrieved = [&](const Tensor& feature) {
      return at::mv(memory.t(), feature) / (at::dot(feature, normaliser) + infini_epsilon);
    };
    std::vector<int64_t> open;  // real positions of the segment so far
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      if (t == 0) {  // a new head begins
        memory = at::zeros({in.key.size(3), in.value.size(3)}, query[b][h][t].options());
        normaliser = at::zeros({in.key.size(3)}, memory.options());
        open.clear();
      } else if (t % options_.segment == 0) {
        auto next = memory, next_normaliser = normaliser;
        for (const auto i : open) {
          const auto& feature = mapped_key[b][g][i];
          const auto news = options_.delta_rule ? value[b][g][i] - retrieved(feature) : value[b][g][i];
          next = next + at::outer(feature, news);
          next_normaliser = next_normaliser + feature;
        }
        memory = next, normaliser = next_normaliser;
        open.clear();
      }
      if (is_real(in, b, t)) open.push_back(t);
      std::vector<Tensor> keys, values;
      for (const auto i : open) keys.push_back(key[b][g][i]), values.push_back(value[b][g][i]);
      return gates[h] * retrieved(mapped_query[b][h][t]) +
             (1 - gates[h]) * attend(query[b][h][t], keys, values, in.value.size(3));
    });
  }

  static int64_t parameter_count(const Options&, const Geometry& geometry) { return geometry.num_heads; }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto segments = segments_of(sizes.queries, options.segment);
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double d = geometry.head_dim, e = geometry.value_dim, rows = segments.padded(), queries = sizes.queries;
    const double c = segments.length, written = c * static_cast<double>(segments.count - 1);
    const double corrected = options.delta_rule && segments.count > 1 ? written - c : 0;
    const double beyond = std::max<double>(0, queries - static_cast<double>(options.segment));
    Cost cost;
    cost.algorithmic_flops = 2 * batch * heads * pairs_within_segments(sizes.queries, options.segment) * (d + e) +
                             2 * batch * ((1 + (options.delta_rule ? 1 : 0)) * groups + heads) * beyond * d * (e + 1);
    cost.executed_flops = 2 * batch * heads * rows * c * (d + e) +
                          2 * batch * (groups * (written + corrected) + heads * written) * d * (e + 1);
    // Query, key and value by segment, one normaliser per query or all weights; features, memories, what was read.
    double kept = batch * (heads * rows + groups * rows) * (d + e) + batch * heads * rows * (d == e ? 1 : c);
    if (segments.count > 1)
      kept += batch * (heads * written * (2 * d + 2 * e + 1) + groups * written * (2 * d + e + 1)) +
              batch * groups * static_cast<double>(segments.count - 1) * d * (e + 1);
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    cost.state_bytes = float_bytes * sizes.batch * geometry.num_kv_heads *
                       (geometry.head_dim * (geometry.value_dim + 1) +
                        sizes.keys % options.segment * (geometry.head_dim + geometry.value_dim));
    return cost;
  }

 private:
  /// phi, in at least float32
  static Tensor features(const Tensor& x) { return at::elu(x.to(accumulation_type(x.scalar_type()))).add_(1); }

  static Tensor with_ones(const Tensor& value) {
    return at::constant_pad_nd(value.to(accumulation_type(value.scalar_type())), {0, 1}, 1);
  }

  /// [.., E + 1] -> [.., E]
  static Tensor normalised(const Tensor& sums) {
    const int64_t width = sums.size(-1) - 1;
    return sums.narrow(-1, 0, width) / (sums.narrow(-1, width, 1) + infini_epsilon);
  }

  /// What a segment adds to the memory [B, G, D, E + 1]: features [B, G, c, D], value [B, G, c, E + 1].
  Tensor written(const Tensor& key, const Tensor& value, const Tensor& memory) const {
    if (!options_.delta_rule) return at::matmul(key.mT(), value);
    const auto known = at::constant_pad_nd(normalised(at::matmul(key, memory)), {0, 1}, 0);
    return at::matmul(key.mT(), value - known);
  }

  /// What the segments after the first find: [B, G, n - 1, D, E + 1].
  Tensor memories(const Inputs& in, const Blocks& segments) const {
    const int64_t writers = segments.count - 1;
    auto mapped = features(in.key);
    if (in.key_padding.defined()) mapped = mapped * per_key(in.key_padding);
    const auto key = key_blocks(mapped, segments).narrow(2, 0, writers);
    const auto value = key_blocks(with_ones(in.value), segments).narrow(2, 0, writers);
    if (!options_.delta_rule) return at::matmul(key.mT(), value).cumsum(2);
    auto memory = at::matmul(key.select(2, 0).mT(), value.select(2, 0));  // an empty memory gives nothing yet
    std::vector<Tensor> found = {memory};
    for (int64_t i = 1; i < writers; ++i) {
      memory = memory + written(key.select(2, i), value.select(2, i), memory);
      found.push_back(memory);
    }
    return at::stack(found, 2);
  }

  /// Softmax inside each segment, which stands for a batch row of its own: [B, H, T, E].
  Tensor local_attention(const Inputs& in, const Blocks& segments) const {
    const int64_t positions = in.query.size(2), batch = in.query.size(0);
    if (segments.count == 1 && !in.key_padding.defined())
      return softmax_attention(in.query, in.key, in.value, /*causal=*/true);
    const auto [n, c] = segments;
    const auto cut = [&](const Tensor& x) { return key_blocks(x, segments).transpose(1, 2).flatten(0, 1); };
    Tensor visible;
    if (in.key_padding.defined())
      visible = visible_keys(causal_mask(c, c, in.query.device()),
                             pad_positions(in.key_padding.unsqueeze(2), 0, n * c - positions).reshape({batch * n, c}));
    return softmax_attention(cut(in.query), cut(in.key), cut(in.value), !visible.defined(), visible)  // [B n, H, c, E]
        .unflatten(0, {batch, n})
        .transpose(1, 2)
        .flatten(2, 3)
        .narrow(2, 0, positions);
  }

  /// g read + (1 - g) local; `read` undefined: nothing to read yet.
  Tensor joined(const Tensor& local, const Tensor& read) const {
    const auto type = accumulation_type(local.scalar_type());
    const auto gate = at::sigmoid(gate_.to(type)).view({-1, 1, 1});
    auto output = (1 - gate) * local.to(type);
    if (read.defined()) output = output + gate * read;
    return output.to(local.scalar_type());
  }

  Options options_;
  Tensor gate_;  // beta, [H]
};

const Register<InfiniAttention> register_infini{{
    .name = "infini",
    .family = "memory-compressed",
    .summary = "softmax inside a segment beside a linear memory of all earlier segments",
    .equation = "y_t = g phi(q_t) M / (phi(q_t) . z) + (1 - g) softmax over the own segment, g = sigmoid(beta); after "
                "each segment M += phi(K)^T V, z += sum phi(k); phi(x) = elu(x) + 1",
    .source = "Munkhdalai et al. 2024, arXiv:2404.07143, section 2.1",
    .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T (segment + D E)",
    .state_complexity = "segment + D (E + 1)",
    .samples = {Json{{"segment", 16}}, Json{{"segment", 7}, {"delta_rule", true}}},
    .equalities = {{.statement = "one segment with a closed gate is softmax",
                    .options = {{"segment", 65}},
                    .other = "softmax",
                    .prepare = [](Attention& attention) { attention.parameters()[0].fill_(-1e3); }}},
    .gate_parameters = {"gate"},
    .rotary_parts = 0,
    .no_rotary =
        "infini's memory holds keys without positions (Munkhdalai et al., section 4.1), and its queries and keys "
        "are those of the softmax inside a segment, which rotary would turn",
}};

}  // namespace
}  // namespace attnscale
