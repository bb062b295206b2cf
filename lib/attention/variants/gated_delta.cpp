// Gated delta rule: the delta rule on a state that decays by a gate. Yang, Kautz and Hatamizadeh 2024,
// arXiv:2412.06464, section 3.
//
// B batch, H heads, T positions, D key width, E value width

#include <ATen/ops/mv.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softplus.h>

#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}^T k_t)^T, y_t = S_t^T q_t; b_t = sigmoid(beta_t),
/// a_t = exp(-exp(log_rate) softplus(decay_t + step_bias)), q and k at unit norm, x / sqrt(|x|^2 + 1e-6).
///
/// Holds `log_rate` and `step_bias` [H], drawn as in Mamba-2, whose gate this is. The rule alone: the block around it
/// is gated_delta_net. Padded positions leave the state as it was.
class GatedDelta : public RecurrentAttention {
 public:
  struct Options {
    int64_t chunk_length = 64;
    static Fields fields() { return {chunk_length_field(&Options::chunk_length)}; }
  };

  GatedDelta(const Options& options, const Geometry& geometry)
      : RecurrentAttention("gated_delta", options.chunk_length, geometry),
        log_rate_(register_parameter("log_rate", initial_log_rate(geometry.num_heads))),
        step_bias_(register_parameter("step_bias", initial_step_bias(geometry.num_heads))) {}

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto unit = [](const Tensor& x) { return x / (x.square().sum(-1, true) + 1e-6).sqrt(); };
    const auto by_head = [](const Tensor& x) { return in_double(x).view({-1, 1, 1}); };
    const auto query = rows_of(unit(in_double(in.query))), key = rows_of(unit(in_double(in.key)));
    const auto value = rows_of(in.value), beta = rows_of(in_double(in.gates.at("beta")).sigmoid());
    const auto step = (in_double(in.gates.at("decay")) + by_head(step_bias_)).exp().log1p();
    const auto decay = rows_of((by_head(log_rate_).exp() * step).neg().exp());
    return for_each_state(in, in.key.size(3), [&](int64_t b, int64_t h, int64_t t, Tensor& state) {
      const auto& k = key[b][h][t];
      if (is_real(in, b, t)) {
        state = decay[b][h][t] * state;
        state = state + beta[b][h][t] * at::outer(k, value[b][h][t] - at::mv(state.t(), k));
      }
      return at::mv(state.t(), query[b][h][t]);
    });
  }

  static std::vector<Gate> gates(const Options&, const Geometry&) { return {{"beta", 1}, {"decay", 1}}; }

  static int64_t parameter_count(const Options&, const Geometry& geometry) { return 2 * geometry.num_heads; }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(Engine::delta, geometry, sizes, options.chunk_length);
  }

 protected:
  Recurrence recurrence(const Inputs& in) const override {
    const auto type = in.query.dtype();
    const auto step = at::softplus(in.gates.at("decay").squeeze(-1) + step_bias_.to(type).unsqueeze(-1));
    return {unit_norm(in.query), unit_norm(in.key), in.value, -log_rate_.to(type).exp().unsqueeze(-1) * step,
            at::sigmoid(in.gates.at("beta")).squeeze(-1)};
  }

 private:
  Tensor log_rate_, step_bias_;
};

const Register<GatedDelta> register_gated_delta{{
    .name = "gated_delta",
    .family = "linear",
    .summary = "the delta rule on a state that decays by a gate",
    .equation = "S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}^T k_t)^T, y_t = S_t^T q_t, b_t = sigmoid(beta_t), "
                "a_t = exp(-exp(r) softplus(decay_t + c)), |q| = |k| = 1",
    .source = "Yang, Kautz and Hatamizadeh 2024, arXiv:2412.06464, section 3; the rule without the block around it",
    .traits = {Trait::causal, Trait::padding, Trait::incremental},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D E",
    .state_complexity = "D E",
    .samples = {Json{{"chunk_length", 16}}},
    .equalities = {{.statement = "without decay it is delta",
                    .other = "delta",
                    .prepare =
                        [](Attention& attention) {
                          attention.named_parameters()["log_rate"].fill_(-1000);  // exp(-1000) is 0
                        }}},
}};

}  // namespace
}  // namespace attnscale
