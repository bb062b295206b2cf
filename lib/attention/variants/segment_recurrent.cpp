// Segment-level recurrence with relative positions (Transformer-XL): a query sees its own segment and the whole
// previous one, at logits of four terms. Dai et al. 2019, arXiv:1901.02860, sections 3.2 and 3.3.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, n segments of c queries, W keys that a segment reaches,
// D key width, E value width, M width of the position encodings (that of the residual stream)

#include <algorithm>
#include <cmath>

#include <ATen/ops/_unsafe_view.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include "attention/key_value_state.h"
#include "attention/logits.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/position_table.h"
#include "attention/registry.h"
#include "attention/segments.h"

namespace attnscale {
namespace {

/// y_t = sum_i softmax_i(((q_t + u) . k_i + (q_t + v) . W_R r_{t-i}) / sqrt(D)) v_i over i <= t in the segment of t and
/// the one before; r_j = [sin(j w), cos(j w)] with w_m = 10000^(-2m / M).
///
/// The paper trains a segment at a time and keeps gradients out of the cached one. Here both lie in one context and
/// gradients flow, as every other path of the model between them is differentiable too. Its memory may be longer than
/// a segment in evaluation; ours is one segment always, so that training and decoding agree.
///
/// u, v [H D] and W_R [H D, M] belong to the heads, as in the paper, and start from N(0, 0.02). Positions are in the
/// logits: a model with this variant needs none of its own.
class SegmentRecurrent : public CachedAttention {
 public:
  struct Options {
    int64_t segment = 64;
    static Fields fields() {
      return {field(&Options::segment, "segment", "length of a segment, and of the memory before it")
                  .between(1, 1 << 20)
                  .in("positions")};
    }
  };

  SegmentRecurrent(const Options& options, const Geometry& geometry) : CachedAttention(geometry), options_(options) {
    const auto drawn = [&](const char* name, at::IntArrayRef sizes) {
      return register_parameter(name, at::randn(sizes) * 0.02);
    };
    content_bias_ = drawn("content_bias", {geometry.num_heads * geometry.head_dim});
    position_bias_ = drawn("position_bias", {geometry.num_heads * geometry.head_dim});
    position_weight_ = drawn("position_weight", {geometry.num_heads * geometry.head_dim, geometry.model_dim});
    const int64_t width = geometry.model_dim, pairs = (width + 1) / 2;
    const auto distances = torch::arange(2 * std::min(options.segment, geometry.context), torch::kFloat64);
    const auto exponents = torch::arange(pairs, torch::kFloat64) * (-2.0 / static_cast<double>(width));
    const auto angles = at::outer(distances, torch::pow(10000.0, exponents));
    encodings_ = PositionTable(at::cat({angles.sin(), angles.cos()}, 1).narrow(1, 0, width));
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("segment_recurrent", in, geometry_, true);
    const auto segments = segments_of(sizes.queries, options_.segment);
    const int64_t lead = segments.count == 1 ? 0 : segments.length;
    const auto real = in.key_padding.defined()
                          ? in.key_padding
                          : at::ones({1, sizes.keys}, in.query.options().dtype(torch::kBool).requires_grad(false));
    const auto present = segment_windows(per_key(real), segments, lead).squeeze(1).mT();  // [B or 1, n, 1, W]
    const auto visible =
        present.logical_and(causal_mask(segments.length, lead + segments.length, in.query.device()));  // [.., n, c, W]
    return attended(in.query, segment_windows(in.key, segments, lead), segment_windows(in.value, segments, lead),
                    segments, visible);
  }

  /// The state is keys and values of the previous segment and of the open one.
  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("segment_recurrent", in, geometry_, true);
    auto& key = state.tensors.at("key");
    auto& value = state.tensors.at("value");
    std::vector<Tensor> outputs;
    for_each_piece(state.length, sizes.queries, options_.segment, [&](int64_t begin, int64_t count) {
      key = at::cat({key, in.key.narrow(2, begin, count)}, 2);
      value = at::cat({value, in.value.narrow(2, begin, count)}, 2);
      const auto visible = causal_mask(count, key.size(2), key.device()).view({1, 1, count, -1});
      outputs.push_back(
          attended(in.query.narrow(2, begin, count), key.unsqueeze(2), value.unsqueeze(2), {1, count}, visible));
      if ((state.length + begin + count) % options_.segment != 0) return;
      // Cloned, as a view would keep what has left the memory.
      key = key.narrow(2, key.size(2) - options_.segment, options_.segment).clone();
      value = value.narrow(2, value.size(2) - options_.segment, options_.segment).clone();
    });
    state.length += sizes.queries;
    return at::cat(outputs, 2);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const int64_t width = geometry_.model_dim, positions = in.query.size(2);
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto u = in_double(content_bias_).chunk(geometry_.num_heads),
               v = in_double(position_bias_).chunk(geometry_.num_heads);
    const auto projections = in_double(position_weight_).chunk(geometry_.num_heads);
    std::vector<std::vector<Tensor>> position_keys(projections.size());  // [head][distance]
    for (int64_t j = 0; j < std::min(positions, 2 * options_.segment); ++j) {
      std::vector<double> encoding(static_cast<size_t>(width));
      const int64_t pairs = (width + 1) / 2;
      for (int64_t m = 0; m < width; ++m) {
        const double rate = std::pow(10000.0, -2.0 * static_cast<double>(m % pairs) / static_cast<double>(width));
        const double angle = static_cast<double>(j) * rate;
        encoding[static_cast<size_t>(m)] = m < pairs ? std::sin(angle) : std::cos(angle);
      }
      for (size_t h = 0; h < projections.size(); ++h)
        position_keys[h].push_back(at::mv(projections[h], torch::tensor(encoding, torch::kFloat64)));
    }
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> keys, places, values;
      const int64_t first = std::max<int64_t>(0, (t / options_.segment - 1) * options_.segment);
      for (int64_t i = first; i <= t; ++i) {
        if (!is_real(in, b, i)) continue;
        keys.push_back(key[b][g][i]);
        places.push_back(position_keys[h][t - i]);
        values.push_back(value[b][g][i]);
      }
      const auto& q = query[b][h][t];
      if (keys.empty()) return at::zeros({in.value.size(3)}, q.options());
      const auto logits = at::mv(at::stack(keys), q + u[h]) + at::mv(at::stack(places), q + v[h]);
      return at::mv(at::stack(values).t(), at::softmax(logits / std::sqrt(static_cast<double>(q.size(0))), 0));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    return key <= query && key / options_.segment >= query / options_.segment - 1;
  }

  static int64_t parameter_count(const Options&, const Geometry& geometry) {
    return geometry.num_heads * geometry.head_dim * (2 + geometry.model_dim);
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto segments = segments_of(sizes.queries, options.segment);
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double d = geometry.head_dim, e = geometry.value_dim, stream = geometry.model_dim;
    const double reach = static_cast<double>(segments.length * (segments.count == 1 ? 1 : 2));  // W
    const double rows = static_cast<double>(segments.padded()), n = segments.count;
    const double before = static_cast<double>(std::max<int64_t>(0, sizes.queries - options.segment));
    const double pairs =
        pairs_within_segments(sizes.queries, options.segment) + before * static_cast<double>(options.segment);
    const double distances = static_cast<double>(std::min(sizes.queries, 2 * options.segment));
    Cost cost;
    cost.algorithmic_flops = 2 * batch * heads * pairs * (2 * d + e) + 2 * distances * stream * heads * d;
    cost.executed_flops = 2 * batch * heads * rows * reach * (2 * d + e) + 2 * reach * stream * heads * d;
    // Weights, gathered keys and values, the query with either bias, keys of the positions.
    const double kept =
        batch * heads * rows * (reach + 2 * d) + batch * groups * n * reach * (d + e) + reach * (heads * d + stream);
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    const int64_t gone = std::max<int64_t>(0, sizes.keys / options.segment - 1) * options.segment;
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys - gone);
    return cost;
  }

 private:
  /// query [B, H, T, D]; key [B, G, n, W, D], value [B, G, n, W, E], the newest at the newest query of a segment;
  /// visible bool [B or 1, n, c, W]. @return [B, H, T, E]
  Tensor attended(const Tensor& query, const Tensor& key, const Tensor& value, const Blocks& segments,
                  const Tensor& visible) {
    const int64_t batch = query.size(0), heads = query.size(1), groups = key.size(1), reach = key.size(3);
    const auto [n, c] = segments;
    const double scale = 1 / std::sqrt(static_cast<double>(query.size(3)));
    const auto with = [&](const Tensor& bias) {
      return (query + bias.view({heads, 1, -1}).to(query.scalar_type())) * scale;
    };
    const auto content = at::matmul(query_blocks(with(content_bias_), groups, segments), key.mT());
    auto logits = at::_unsafe_view(content, {batch, groups, n, heads / groups, c, reach});
    logits = logits + position_logits(with(position_bias_), segments, reach)
                          .unflatten(0, {groups, heads / groups})  // [G, R, B, n, c, W]
                          .permute({2, 0, 3, 1, 4, 5});
    const auto flat = logits.view({batch * groups, n, heads / groups * c, reach});
    const auto mask = mask_for_groups(visible, groups, heads / groups);
    const auto output = attend_by_logits(flat, mask, value.flatten(0, 1));  // [B G, n, R c, E]
    return joined_blocks(output.unflatten(0, {batch, groups}), heads, query.size(2));
  }

  /// query . W_R r_{distance}: [B, H, T, D] -> [H, B, n, c, W]
  Tensor position_logits(const Tensor& query, const Blocks& segments, int64_t reach) {
    const int64_t batch = query.size(0), heads = query.size(1), width = query.size(3);
    const auto [n, c] = segments;
    // Farthest first, as the keys are.
    const auto encodings = encodings_.rows(0, reach, query).flip(0);                   // [W, M]
    const auto keys = at::linear(encodings, position_weight_.to(query.scalar_type()))  // [W, H D]
                          .to(query.scalar_type())
                          .view({reach, heads, width})
                          .permute({1, 2, 0});  // [H, D, W]
    const auto rows = pad_positions(query, 0, segments.padded() - query.size(2))
                          .transpose(0, 1)
                          .reshape({heads, batch * n * c, width});
    const auto by_distance = at::bmm(rows, keys).view({heads, batch, n, c, reach});
    // Row a of a segment is c - 1 - a places too far left: with one number before each row, reading all from c on
    // moves each row by one more than the row below.
    return at::constant_pad_nd(by_distance, {1, 0}, 0).flatten(3).narrow(3, c, c * reach).unflatten(3, {c, reach});
  }

  Options options_;
  Tensor content_bias_, position_bias_, position_weight_;  // u, v [H D], W_R [H D, M]
  PositionTable encodings_;                                // [distances, M]
};

const Register<SegmentRecurrent> register_segment_recurrent{{
    .name = "segment_recurrent",
    .family = "memory-compressed",
    .summary = "the own segment and the previous one, with relative positions in the logits (Transformer-XL), "
               "which stand beside those of model.position",
    .equation = "y_t = sum_i softmax_i(((q_t + u) . k_i + (q_t + v) . W_R r_{t-i}) / sqrt(D)) v_i, "
                "floor(i / L) >= floor(t / L) - 1, i <= t",
    .source = "Dai et al. 2019, arXiv:1901.02860, sections 3.2 and 3.3; gradients flow into the memory",
    .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T segment",
    .state_complexity = "segment",
    .samples = {Json{{"segment", 7}}, Json{{"segment", 32}}},
    .equalities = {{.statement = "one segment without position terms is softmax",
                    .options = {{"segment", 65}},
                    .other = "softmax",
                    .prepare =
                        [](Attention& attention) {
                          for (auto& parameter : attention.parameters()) parameter.zero_();
                        }}},
}};

}  // namespace
}  // namespace attnscale
