// Delta rule (DeltaNet): what a key already finds in the state is replaced, not added to. Schlag et al. 2021,
// arXiv:2102.11174; Yang et al. 2024, arXiv:2406.06484.
//
// B batch, H heads, T positions, D key width, E value width

#include <ATen/ops/mv.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/sigmoid.h>

#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// S_t = S_{t-1} + b_t k_t (v_t - S_{t-1}^T k_t)^T, y_t = S_t^T q_t; b_t = sigmoid(beta_t), q and k at unit norm.
///
/// The unit norm is x / sqrt(|x|^2 + 1e-6), as in public implementations. The rule alone: silu before the norm, short
/// convolutions and the output norm of the paper's block are not here (gated_delta_net has them).
/// Padded positions leave the state as it was.
class Delta : public RecurrentAttention {
 public:
  struct Options {
    int64_t chunk_length = 64;
    static Fields fields() { return {chunk_length_field(&Options::chunk_length)}; }
  };

  Delta(const Options& options, const Geometry& geometry)
      : RecurrentAttention("delta", options.chunk_length, geometry) {}

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto unit = [](const Tensor& x) { return x / (x.square().sum(-1, true) + 1e-6).sqrt(); };
    const auto query = rows_of(unit(in_double(in.query))), key = rows_of(unit(in_double(in.key)));
    const auto value = rows_of(in.value), beta = rows_of(in_double(in.gates.at("beta")).sigmoid());
    return for_each_state(in, in.key.size(3), [&](int64_t b, int64_t h, int64_t t, Tensor& state) {
      const auto& k = key[b][h][t];
      if (is_real(in, b, t)) state = state + beta[b][h][t] * at::outer(k, value[b][h][t] - at::mv(state.t(), k));
      return at::mv(state.t(), query[b][h][t]);
    });
  }

  static std::vector<Gate> gates(const Options&, const Geometry&) { return {{"beta", 1}}; }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(Engine::delta, geometry, sizes, options.chunk_length);
  }

 protected:
  Recurrence recurrence(const Inputs& in) const override {
    return {unit_norm(in.query), unit_norm(in.key), in.value, {}, at::sigmoid(in.gates.at("beta")).squeeze(-1)};
  }
};

const Register<Delta> register_delta{{
    .name = "delta",
    .family = "linear",
    .summary = "a state in which a key's old value is replaced by the new one (the delta rule)",
    .equation =
        "S_t = S_{t-1} + b_t k_t (v_t - S_{t-1}^T k_t)^T, y_t = S_t^T q_t, b_t = sigmoid(beta_t), |q| = |k| = 1",
    .source = "Yang et al. 2024, arXiv:2406.06484, sections 2 and 3; the rule without the block around it",
    .traits = {Trait::causal, Trait::padding, Trait::incremental},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D E",
    .state_complexity = "D E",
    .samples = {Json{{"chunk_length", 16}}},
}};

}  // namespace
}  // namespace attnscale
