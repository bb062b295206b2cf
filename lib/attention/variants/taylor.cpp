// Linear attention by the second-order Taylor expansion of the exponential, as in Based. Arora et al. 2024,
// arXiv:2402.18668, section 4.1; Zhang et al. 2024, arXiv:2402.04347, section 3.
//
// B batch, H heads, G key-value heads, T queries, S keys, n keys that a query sees, D key width, r expanded width,
// E value width

#include <cmath>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>

#include "attention/kernel_attention.h"
#include "attention/kernel_oracle.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_i w_ti v_i / (sum_i w_ti + 1e-6), w_ti = 1 + s + s^2 / 2, s = (P_q q_t) . (P_k k_i) / sqrt(r).
///
/// The square needs r (r + 1) / 2 features (pairs once, not twice as in the authors' code), so r is kept small: Based
/// projects the stream to 16 numbers. Here query and key come with D numbers, and where D > feature_dim they are
/// projected per head to feature_dim by learnt matrices, which spans the same functions; narrower heads are expanded
/// as they are. Holds `query_map` [H, r, D] and `key_map` [G, r, D] where D > r, from N(0, 1 / D).
/// Not here: the paper's sliding window beside it (a hybrid: model.layers).
class Taylor : public KernelAttention {
 public:
  struct Options {
    int64_t feature_dim = 16;
    int64_t chunk_length = 64;
    static Fields fields() {
      return {field(&Options::feature_dim, "feature_dim",
                    "wider queries and keys are projected to this width before the expansion")
                  .between(1, 1024),
              chunk_length_field(&Options::chunk_length)};
    }
  };

  Taylor(const Options& options, const Geometry& geometry)
      : KernelAttention({"taylor", options.chunk_length, features(width(options, geometry))}, geometry),
        width_(width(options, geometry)) {
    if (width_ == geometry.head_dim) return;
    const auto map = [&](const char* name, int64_t heads) {
      const double scale = 1 / std::sqrt(static_cast<double>(geometry.head_dim));
      return register_parameter(name, at::randn({heads, width_, geometry.head_dim}) * scale);
    };
    query_map_ = map("query_map", geometry.num_heads);
    key_map_ = map("key_map", geometry.num_kv_heads);
  }

  Tensor oracle(const Inputs& in) const override {
    const auto narrowed = [](const Tensor& x, const Tensor& map) {
      return map.defined() ? at::matmul(oracle::in_double(x), oracle::in_double(map).transpose(1, 2)) : x;
    };
    auto mapped = in;
    mapped.query = narrowed(in.query, query_map_);
    mapped.key = narrowed(in.key, key_map_);
    return oracle::kernel_mean(mapped, geometry_.causal, usual_epsilon,
                               [&](const Tensor& q, int64_t, const oracle::SeenKeys& seen) {
                                 const auto s = at::mv(seen.keys, q) / std::sqrt(static_cast<double>(width_));
                                 return 1 + s + s * s / 2;
                               });
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    const int64_t r = width(options, geometry);
    return r == geometry.head_dim ? 0 : (geometry.num_heads + geometry.num_kv_heads) * r * geometry.head_dim;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const int64_t r = width(options, geometry);
    const double map_flops = r == geometry.head_dim ? 0 : 2.0 * static_cast<double>(r * geometry.head_dim);
    return cost_of(geometry, sizes, features(r), options.chunk_length, map_flops);
  }

 protected:
  Tensor query_features(const Tensor& x, int64_t) override { return expanded(x, query_map_); }
  Tensor key_features(const Tensor& x, int64_t) override { return expanded(x, key_map_); }

 private:
  static int64_t width(const Options& options, const Geometry& geometry) {
    return std::min(options.feature_dim, geometry.head_dim);
  }
  static int64_t features(int64_t r) { return 1 + r + r * (r + 1) / 2; }

  /// [1, x, x_i^2 / sqrt(2), x_i x_j for i < j] of x / r^(1/4)
  Tensor expanded(const Tensor& x, const Tensor& map) const {
    const auto mapped = map.defined() ? at::matmul(x, map.to(x.dtype()).mT()) : x;
    const auto small = mapped * std::pow(static_cast<double>(width_), -0.25);
    std::vector<Tensor> parts = {at::ones_like(small.narrow(-1, 0, 1)), small, small * small * std::sqrt(0.5)};
    for (int64_t i = 0; i + 1 < width_; ++i)
      parts.push_back(small.narrow(-1, i, 1) * small.narrow(-1, i + 1, width_ - i - 1));
    return at::cat(parts, -1);
  }

  int64_t width_;  // r
  Tensor query_map_, key_map_;
};

const Register<Taylor> register_taylor{{
    .name = "taylor",
    .family = "linear",
    .summary = "linear attention by the second-order expansion of the exponential (Based)",
    .equation = "y_t = sum_i w_ti v_i / (sum_i w_ti + 1e-6), w_ti = 1 + s + s^2 / 2, "
                "s = (P_q q_t) . (P_k k_i) / sqrt(r); P is the identity for D <= feature_dim",
    .source = "Arora et al. 2024, arXiv:2402.18668, section 4.1; the sliding window beside it is left to hybrids",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T r^2 E, r = min(D, feature_dim)",
    .state_complexity = "(1 + r + r (r + 1) / 2) (E + 1)",
    .samples = {Json{{"chunk_length", 16}, {"feature_dim", 4}}},
}};

}  // namespace
}  // namespace attnscale
