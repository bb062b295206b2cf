// Linear attention with a rectifier as its feature map: Performer-ReLU. Choromanski et al. 2020,
// arXiv:2009.14794, section 4 and appendix B ("generalized attention", f = ReLU).
//
// B batch, H heads, G key-value heads, T queries, S keys, n keys that a query sees, D key width, E value width

#include <ATen/ops/mv.h>
#include <ATen/ops/relu.h>

#include "attention/kernel_attention.h"
#include "attention/kernel_oracle.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// Added to each feature, as in the authors' code (`kernel_epsilon`): a query whose rectified numbers meet none of
/// the key's still gives every key a little weight, so that nothing is divided by zero.
constexpr double relu_offset = 1e-3;

/// y_t = sum_i w_ti v_i / (sum_i w_ti + 1e-6), w_ti = phi(q_t) . phi(k_i), phi(x) = max(x, 0) + 0.001.
///
/// The authors' code also projects q and k by a random matrix before the rectifier; their comparison of kernels
/// gains nothing from it over plain features, and it is not here.
class Relu : public KernelAttention {
 public:
  struct Options {
    int64_t chunk_length = 64;
    static Fields fields() { return {chunk_length_field(&Options::chunk_length)}; }
  };

  Relu(const Options& options, const Geometry& geometry)
      : KernelAttention({"relu", options.chunk_length, geometry.head_dim}, geometry) {}

  Tensor oracle(const Inputs& in) const override {
    const auto phi = [](const Tensor& x) { return x.clamp_min(0) + relu_offset; };
    return oracle::kernel_mean(
        in, geometry_.causal, usual_epsilon,
        [&](const Tensor& q, int64_t, const oracle::SeenKeys& seen) { return at::mv(phi(seen.keys), phi(q)); });
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(geometry, sizes, geometry.head_dim, options.chunk_length);
  }

 protected:
  Tensor query_features(const Tensor& x, int64_t) override { return at::relu(x) + relu_offset; }
  Tensor key_features(const Tensor& x, int64_t) override { return at::relu(x) + relu_offset; }
  std::optional<FusedMap> fused_map() const override {
    return FusedMap{.map = FeatureMap::relu, .offset = relu_offset};
  }
};

const Register<Relu> register_relu{{
    .name = "relu",
    .family = "linear",
    .summary = "linear attention whose features are the positive parts of query and key",
    .equation = "y_t = sum_i w_ti v_i / (sum_i w_ti + 1e-6), w_ti = phi(q_t) . phi(k_i), phi(x) = max(x, 0) + 0.001",
    .source = "Choromanski et al. 2020, arXiv:2009.14794, section 4 and appendix B; no random projection",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D E",
    .state_complexity = "D (E + 1)",
    .samples = {Json{{"chunk_length", 16}}},
}};

}  // namespace
}  // namespace attnscale
