// Linear attention: a kernel phi(q) . phi(k) in place of exp(q . k), so that the sums over keys can be
// made once and carried along. Katharopoulos et al. 2020, arXiv:2006.16236, equations 4 to 7 and 18 to 20.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, n chunks of c positions,
// D key width, E value width
//
// Not here: other feature maps, decay and gates, which are other variants.

#include <algorithm>

#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp_max.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "attention/blocks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// Added to the normaliser, so that a query whose every phi(q) . phi(k) underflows gives zeros and not
/// NaN. The value of the authors' code; it moves an output by a relative 1e-6 / (phi(q) . z).
constexpr double epsilon = 1e-6;

/// y_t = phi(q_t) S_t / (phi(q_t) . z_t + epsilon), S_t = sum_i phi(k_i) v_i^T, z_t = sum_i phi(k_i),
/// over the keys that t may see.
///
/// Causal sums go by chunks: inside a chunk as a masked product, between chunks by the running state.
/// The value gets a column of ones, so that numerator and normaliser come from the same products.
/// Sums are kept in float32 under bfloat16.
class Linear : public Attention {
 public:
  struct Options {
    int64_t chunk_length = 64;
    static Fields fields() {
      return {field(&Options::chunk_length, "chunk_length",
                    "longest chunk of the causal form; changes speed and rounding, not the result")
                  .between(1, 65536)
                  .in("positions")};
    }
  };

  Linear(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {}

  Tensor forward(const Inputs& in) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("linear", in, geometry_, geometry_.causal);
    const auto x = mapped(in);
    const auto sums = geometry_.causal ? causal_sums(x, {}) : all_sums(x, sizes);
    return normalised(sums).to(in.value.scalar_type());
  }

  /// One tensor [B, G, D, E + 1]: S, and z as its last column.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    const auto type = accumulation_type(c10::typeMetaToScalarType(options.dtype()));
    return {.tensors = {{"sums", at::zeros({batch, geometry_.num_kv_heads, geometry_.head_dim, geometry_.value_dim + 1},
                                           options.dtype(type))}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("linear", in, geometry_, true);
    const auto x = mapped(in);
    auto& carried = state.tensors.at("sums");
    const auto sums = causal_sums(x, carried);
    carried = carried + at::matmul(x.key.mT(), x.value);
    state.length += sizes.queries;
    return normalised(sums).to(in.value.scalar_type());
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto phi = [](const Tensor& x) { return at::where(x > 0, x + 1, at::exp(at::clamp_max(x, 0))); };
    const auto query = rows_of(phi(in_double(in.query))), key = rows_of(phi(in_double(in.key)));
    const auto value = rows_of(in.value);
    Tensor sum, normaliser;  // [D, E], [D]
    const auto absorb = [&](int64_t b, int64_t g, int64_t i) {
      if (!is_real(in, b, i)) return;
      sum = sum + at::outer(key[b][g][i], value[b][g][i]);
      normaliser = normaliser + key[b][g][i];
    };
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      if (t == 0) {  // a new head begins
        sum = at::zeros({in.key.size(3), in.value.size(3)}, torch::dtype(torch::kFloat64).device(in.key.device()));
        normaliser = at::zeros({in.key.size(3)}, sum.options());
        for (int64_t i = 0; !geometry_.causal && i < in.key.size(2); ++i) absorb(b, g, i);
      }
      if (geometry_.causal) absorb(b, g, t);
      const auto& q = query[b][h][t];
      return at::mv(sum.t(), q) / (at::dot(q, normaliser) + epsilon);
    });
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double queries = sizes.queries, keys = sizes.keys, d = geometry.head_dim, e = geometry.value_dim;
    Cost cost;
    cost.algorithmic_flops = 2 * batch * (groups * keys * d * e + heads * queries * d * (e + 1));
    cost.state_bytes = float_bytes * sizes.batch * geometry.num_kv_heads * geometry.head_dim * (geometry.value_dim + 1);
    double kept = batch * (heads * queries * (2 * d + 2 * e + 1) + groups * keys * (2 * d + e + 1));
    if (!geometry.causal) {
      cost.executed_flops = 2 * batch * (groups * keys + heads * queries) * d * (e + 1);
      kept += batch * groups * d * (e + 1);
    } else {
      const auto blocks = even_blocks(sizes.queries, options.chunk_length);
      const double n = blocks.count, c = blocks.length;
      cost.executed_flops = 2 * batch * heads * n * c * c * (d + e + 1);
      if (blocks.count > 1) cost.executed_flops += 2 * batch * (groups * (n - 1) + heads * n) * c * d * (e + 1);
      kept += batch * (heads * n * c * c + (blocks.count > 1 ? groups * n * d * (e + 1) : 0));
    }
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    return cost;
  }

 private:
  /// phi(q), phi(k) with zeros at padded keys, and the value with its column of ones.
  struct Mapped {
    Tensor query, key, value;  // [B, H, T, D], [B, G, S, D], [B, G, S, E + 1]
  };

  static Mapped mapped(const Inputs& in) {
    const auto type = accumulation_type(in.value.scalar_type());
    const auto phi = [&](const Tensor& x) { return at::elu(x.to(type)).add_(1); };
    auto key = phi(in.key);
    if (in.key_padding.defined()) key = key * per_key(in.key_padding);
    return {phi(in.query), key, at::constant_pad_nd(in.value.to(type), {0, 1}, 1)};
  }

  /// sum over all keys of phi(q) . phi(k) [v, 1]: [B, H, T, E + 1]
  static Tensor all_sums(const Mapped& x, const CallSizes& sizes) {
    const auto state = at::matmul(x.key.mT(), x.value);  // [B, G, D, E + 1]
    const auto query = query_blocks(x.query, sizes.kv_heads, {1, sizes.queries}).squeeze(2);
    return joined_blocks(at::matmul(query, state).unsqueeze(2), sizes.heads, sizes.queries);
  }

  /// The same over the keys up to each query and those in `initial` [B, G, D, E + 1] (may be undefined).
  Tensor causal_sums(const Mapped& x, const Tensor& initial) const {
    const int64_t heads = x.query.size(1), groups = x.key.size(1), positions = x.query.size(2);
    const auto blocks = even_blocks(positions, options_.chunk_length);
    const auto [n, c] = blocks;
    const auto query = query_blocks(x.query, groups, blocks);  // [B, G, n, R c, D]
    const auto key = key_blocks(x.key, blocks);                // [B, G, n, c, D]
    const auto value = key_blocks(x.value, blocks);            // [B, G, n, c, E + 1]

    const auto weights = at::matmul(query, key.mT());  // [B, G, n, R c, c]
    // _unsafe_view: the product has no other user, and an in-place write to an ordinary view would
    // make autograd copy the whole gradient.
    const auto masked = at::_unsafe_view(weights, {x.query.size(0), groups, n, heads / groups, c, c}).tril_();
    auto sums = at::matmul(masked.view(weights.sizes()), value);  // [B, G, n, R c, E + 1]
    if (n == 1 && !initial.defined()) return joined_blocks(sums, heads, positions);

    // What each chunk finds: `initial` and the sums of the chunks before it.
    const auto made = at::matmul(key.narrow(2, 0, n - 1).mT(), value.narrow(2, 0, n - 1));  // [B, G, n - 1, D, E + 1]
    const auto first = initial.defined()
                           ? initial.unsqueeze(2)
                           : at::zeros({key.size(0), groups, 1, key.size(4), value.size(4)}, key.options());
    const auto found = at::cat({first, made.cumsum(2) + first}, 2);  // [B, G, n, D, E + 1]
    sums = at::baddbmm(sums.flatten(0, 2), query.flatten(0, 2), found.flatten(0, 2)).view(sums.sizes());
    return joined_blocks(sums, heads, positions);
  }

  /// [.., E + 1] -> [.., E]
  static Tensor normalised(const Tensor& sums) {
    const int64_t width = sums.size(-1) - 1;
    return sums.narrow(-1, 0, width) / (sums.narrow(-1, width, 1) + epsilon);
  }

  Options options_;
};

const Register<Linear> register_linear{{
    .name = "linear",
    .family = "linear",
    .summary = "kernel feature map elu + 1 in place of the exponential; a fixed-size state",
    .equation = "y_t = phi(q_t) S_t / (phi(q_t) . z_t + 1e-6), S_t = sum_{i<=t} phi(k_i) v_i^T, "
                "z_t = sum_{i<=t} phi(k_i), phi(x) = elu(x) + 1",
    .source = "Katharopoulos et al. 2020, arXiv:2006.16236, sections 3.2 to 3.4",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .time_complexity = "T D E",
    .state_complexity = "D (E + 1)",
    .samples = {Json{{"chunk_length", 1}}, Json{{"chunk_length", 16}}},
}};

}  // namespace
}  // namespace attnscale
