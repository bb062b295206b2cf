// Linear attention: a kernel phi(q) . phi(k) in place of exp(q . k), so that the sums over keys can be
// made once and carried along. Katharopoulos et al. 2020, arXiv:2006.16236, equations 4 to 7 and 18 to 20.
//
// B batch, H heads, G key-value heads, T queries, S keys, D key width, E value width
//
// Not here: other feature maps, decay and gates, which are other variants.

#include <ATen/ops/clamp_max.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "attention/kernel_attention.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = phi(q_t) S_t / (phi(q_t) . z_t + epsilon), S_t = sum_i phi(k_i) v_i^T, z_t = sum_i phi(k_i),
/// over the keys that t may see; phi(x) = elu(x) + 1.
class LinearAttention : public KernelAttention {
 public:
  struct Options {
    int64_t chunk_length = 64;
    static Fields fields() { return {chunk_length_field(&Options::chunk_length)}; }
  };

  LinearAttention(const Options& options, const Geometry& geometry)
      : KernelAttention({"linear", options.chunk_length, geometry.head_dim}, geometry) {}

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
      return at::mv(sum.t(), q) / (at::dot(q, normaliser) + usual_epsilon);
    });
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(geometry, sizes, geometry.head_dim, options.chunk_length);
  }

 protected:
  Tensor query_features(const Tensor& x, int64_t) override { return at::elu(x).add_(1); }
  Tensor key_features(const Tensor& x, int64_t) override { return at::elu(x).add_(1); }
  std::optional<FusedMap> fused_map() const override { return FusedMap{.map = FeatureMap::elu_plus_one}; }
};

const Register<LinearAttention> register_linear{{
    .name = "linear",
    .family = "linear",
    .summary = "kernel feature map elu + 1 in place of the exponential; a fixed-size state",
    .equation = "y_t = phi(q_t) S_t / (phi(q_t) . z_t + 1e-6), S_t = sum_{i<=t} phi(k_i) v_i^T, "
                "z_t = sum_{i<=t} phi(k_i), phi(x) = elu(x) + 1",
    .source = "Katharopoulos et al. 2020, arXiv:2006.16236, sections 3.2 to 3.4",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D E",
    .state_complexity = "D (E + 1)",
    .samples = {Json{{"chunk_length", 1}}, Json{{"chunk_length", 16}}},
}};

}  // namespace
}  // namespace attnscale
