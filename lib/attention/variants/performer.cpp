// Performer: softmax attention's kernel exp(q . k / sqrt(D)), estimated by positive orthogonal random features
// (FAVOR+). Choromanski et al. 2020, arXiv:2009.14794, sections 2.3 and 2.4.
//
// B batch, H heads, G key-value heads, T queries, S keys, n keys that a query sees, D key width, m features,
// E value width
//
// Not here: drawing features anew while training, which a checkpoint and a certificate could not repeat.

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/cummax.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/where.h>

#include "attention/kernel_attention.h"
#include "attention/kernel_oracle.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

constexpr double performer_minus_infinity = -std::numeric_limits<double>::infinity();

/// Rows [m, D], each N(0, I) by itself; the rows of each block of D are orthogonal, which lowers the variance of
/// their mean (section 2.4).
Tensor orthogonal_gaussian(int64_t m, int64_t d) {
  std::vector<Tensor> blocks;
  for (int64_t from = 0; from < m; from += d) {
    const auto [q, r] = at::linalg_qr(at::randn({d, d}));
    const auto uniform = q * r.diagonal().sign();  // without the signs a direction would be preferred
    blocks.push_back(uniform.t().narrow(0, 0, std::min(d, m - from)));
  }
  return at::cat(blocks) * at::randn({m, d}).norm(2, {1}, true);
}

/// y_t = sum_i w_ti v_i / sum_i w_ti, w_ti = phi(q_t) . phi(k_i), phi(x) = exp(W x' - |x'|^2 / 2),
/// x' = x / D^(1/4): the mean of w over W is exp(q . k / sqrt(D)), and its error falls as m^(-1/2).
///
/// Stabiliser: exponents of a query are taken relative to their largest, which the quotient cancels. For keys the
/// authors' code takes the largest over the whole sequence, through which the future reaches the past; here it is
/// the largest so far, and older sums shrink as it rises (a decay), so that the quotient stays exact.
/// The normaliser is kept from 0 / 0 by 1e-30: after stabilising it is of the order 1 unless every product
/// underflows, which then gives zeros.
/// Holds the buffer `projection` [m, D], drawn once; all heads share it.
class Performer : public KernelAttention {
 public:
  struct Options {
    std::optional<int64_t> num_features;
    int64_t chunk_length = 64;
    static Fields fields() {
      return {field(&Options::num_features, "num_features", "m; left out: head_dim ln head_dim, rounded down")
                  .between(1, 65536),
              chunk_length_field(&Options::chunk_length)};
    }
  };

  Performer(const Options& options, const Geometry& geometry)
      : KernelAttention({.name = "performer",
                         .chunk_length = options.chunk_length,
                         .features = count(options, geometry),
                         .epsilon = 1e-30,
                         .map_flops = 2.0 * static_cast<double>(count(options, geometry) * geometry.head_dim)},
                        geometry),
        projection_(register_buffer("projection", orthogonal_gaussian(count(options, geometry), geometry.head_dim))) {}

  /// Beside the sums the largest exponent so far, [B, G].
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    auto state = KernelAttention::new_state(batch, options);
    state.tensors["largest"] =
        at::full({batch, geometry_.num_kv_heads}, performer_minus_infinity, state.tensors.at("sums").options());
    return state;
  }

  Tensor oracle(const Inputs& in) const override {
    const auto projection = oracle::in_double(projection_);
    const auto phi = [&](const Tensor& x) {  // [.., D] -> [.., m]
      const auto scaled = x / std::pow(static_cast<double>(geometry_.head_dim), 0.25);
      return (at::matmul(scaled, projection.t()) - (scaled * scaled).sum(-1, true) / 2).exp();
    };
    auto mapped = in;
    mapped.query = phi(oracle::in_double(in.query));
    mapped.key = phi(oracle::in_double(in.key));
    return oracle::kernel_mean(
        mapped, geometry_.causal, 0.0,
        [](const Tensor& q, int64_t, const oracle::SeenKeys& seen) { return at::mv(seen.keys, q); });
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const int64_t m = count(options, geometry);
    auto cost = cost_of(geometry, sizes, m, options.chunk_length, 2.0 * static_cast<double>(m * geometry.head_dim),
                        /*decays=*/true);
    cost.state_bytes += float_bytes * sizes.batch * geometry.num_kv_heads;
    return cost;
  }

 protected:
  Tensor query_features(const Tensor& x, int64_t) override {
    const auto exponent = exponents(x);
    return (exponent - exponent.detach().amax(-1, true)).exp();
  }

  Tensor key_features(const Tensor& x, int64_t) override { return exponents(x); }  // see `features`

  std::optional<FusedMap> fused_map() const override { return FusedMap{.projection = projection_}; }

  Features features(const Inputs& in, State* state) override {
    const auto type = accumulation_type(in.value.scalar_type());
    auto exponent = key_features(in.key.to(type), 0);  // [B, G, S, m]
    if (in.key_padding.defined())
      exponent = exponent.masked_fill(per_key(in.key_padding).logical_not(), performer_minus_infinity);
    const auto own = exponent.detach().amax(-1);  // [B, G, S]
    Features result{query_features(in.query.to(type), 0), {}};
    Tensor largest = own.amax(-1, true);  // [B, G, 1], of all keys
    if (geometry_.causal) {
      const auto before = state ? state->tensors.at("largest").unsqueeze(-1)
                                : at::full({own.size(0), own.size(1), 1}, performer_minus_infinity, own.options());
      const auto running = std::get<0>(at::cummax(at::cat({before, own}, -1), -1));  // [B, G, 1 + T]
      largest = running.narrow(-1, 1, own.size(-1));
      const auto previous = running.narrow(-1, 0, own.size(-1));
      // Before the first real key there is nothing that could decay.
      result.log_decay = at::where(previous.isinf(), 0, previous - largest);
      if (state) state->tensors.at("largest") = running.select(-1, -1);
    }
    result.key = (exponent - at::where(largest.isinf(), 0, largest).unsqueeze(-1)).exp();
    return result;
  }

 private:
  static int64_t count(const Options& options, const Geometry& geometry) {
    const double d = static_cast<double>(geometry.head_dim);
    return options.num_features.value_or(std::max<int64_t>(1, static_cast<int64_t>(d * std::log(d))));
  }

  Tensor exponents(const Tensor& x) const {
    const auto scaled = x * std::pow(static_cast<double>(geometry_.head_dim), -0.25);
    return at::matmul(scaled, projection_.to(x.dtype()).t()) - (scaled * scaled).sum(-1, true) / 2;
  }

  Tensor projection_;  // [m, D]
};

const Register<Performer> register_performer{{
    .name = "performer",
    .family = "linear",
    .summary = "softmax attention estimated by positive orthogonal random features (FAVOR+), drawn once",
    .equation = "y_t = sum_i w_ti v_i / sum_i w_ti, w_ti = phi(q_t) . phi(k_i), "
                "phi(x) = exp(W x' - |x'|^2 / 2), x' = x / D^(1/4), W random with orthogonal rows",
    .source = "Choromanski et al. 2020, arXiv:2009.14794, sections 2.3 and 2.4; drawn once, stabilised by the largest "
              "exponent so far",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T m (D + E)",
    .state_complexity = "m (E + 1) + 1",
    .samples = {Json{{"chunk_length", 16}, {"num_features", 32}}},
}};

}  // namespace
}  // namespace attnscale
