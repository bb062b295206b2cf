// State space duality (SSD), the core of Mamba-2: a state that decays by a gated step. Dao and Gu 2024,
// arXiv:2405.21060, sections 2, 3 and 6.
//
// B batch, H heads, T positions, D key width (the paper's state size N), E value width (the paper's head size P)

#include <cmath>

#include <ATen/ops/full_like.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/softplus.h>

#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// S_t = exp(-exp(log_rate) d_t) S_{t-1} + d_t k_t v_t^T, y_t = S_t^T q_t + skip v_t, d_t = softplus(step_t +
/// step_bias).
///
/// The paper's names: C = query, B = key, x = value, Delta = d, A = -exp(log_rate), D = skip. Holds `log_rate`,
/// `step_bias` (drawn as in Mamba-2) and `skip` (from 1), each [H]. The core alone: mamba2 is the block around it.
/// Padded positions leave the state as it was and give zero in the skip.
class StateSpace : public RecurrentAttention {
 public:
  struct Options {
    int64_t chunk_length = 64;
    static Fields fields() { return {chunk_length_field(&Options::chunk_length)}; }
  };

  StateSpace(const Options& options, const Geometry& geometry)
      : RecurrentAttention("state_space", options.chunk_length, geometry),
        log_rate_(register_parameter("log_rate", initial_log_rate(geometry.num_heads))),
        step_bias_(register_parameter("step_bias", initial_step_bias(geometry.num_heads))),
        skip_(register_parameter("skip", at::ones({geometry.num_heads}))) {}

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto rate = in_double(log_rate_).exp().unbind(0), skip = in_double(skip_).unbind(0);
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto steps = (in_double(in.gates.at("step")) + in_double(step_bias_).view({-1, 1, 1})).exp().log1p();
    const auto step = rows_of(steps);
    return for_each_state(in, in.key.size(3), [&](int64_t b, int64_t h, int64_t t, Tensor& state) {
      const auto& d = step[b][h][t];
      if (!is_real(in, b, t)) return at::mv(state.t(), query[b][h][t]);
      state = (-rate[h] * d).exp() * state + d * at::outer(key[b][h][t], value[b][h][t]);
      return at::mv(state.t(), query[b][h][t]) + skip[h] * value[b][h][t];
    });
  }

  static std::vector<Gate> gates(const Options&, const Geometry&) { return {{"step", 1}}; }

  static int64_t parameter_count(const Options&, const Geometry& geometry) { return 3 * geometry.num_heads; }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(Engine::scalar, geometry, sizes, options.chunk_length);
  }

 protected:
  Recurrence recurrence(const Inputs& in) const override {
    const auto type = in.query.dtype();
    const auto step = at::softplus(in.gates.at("step") + step_bias_.to(type).view({-1, 1, 1}));  // [B, H, T, 1]
    return {in.query, in.key, in.value * step, -log_rate_.to(type).exp().unsqueeze(-1) * step.squeeze(-1)};
  }

  Tensor finished(const Inputs& in, const Recurrence&, const Tensor& outputs) const override {
    const auto value = in.key_padding.defined() ? in.value * per_key(in.key_padding) : in.value;
    return outputs + skip_.to(outputs.dtype()).view({-1, 1, 1}) * value;
  }

 private:
  Tensor log_rate_, step_bias_, skip_;
};

/// Rates and steps that give retention's constant decays, 1 - 2^(-5-h), at steps of one.
void set_retention_rates(Attention& attention) {
  auto parameters = attention.named_parameters();
  parameters["step_bias"].zero_();
  parameters["skip"].zero_();
  for (int64_t h = 0; h < attention.geometry().num_heads; ++h)
    parameters["log_rate"][h] = std::log(-std::log1p(-std::pow(2.0, -5 - static_cast<double>(h))));
}

Inputs with_steps_of_one(const Inputs& in) {
  auto result = in;
  result.query = in.query / std::sqrt(static_cast<double>(in.query.size(3)));  // retention's scale
  result.gates["step"] = at::full_like(in.gates.at("step"), std::log(std::exp(1.0) - 1));
  return result;
}

const Register<StateSpace> register_state_space{{
    .name = "state_space",
    .family = "linear",
    .summary = "a state that decays by a gated step: the core of Mamba-2",
    .equation = "S_t = exp(d_t A) S_{t-1} + d_t k_t v_t^T, y_t = S_t^T q_t + skip v_t, "
                "d_t = softplus(step_t + c), A = -exp(r) for each head",
    .source = "Dao and Gu 2024, arXiv:2405.21060, sections 2, 3 and 6; the core without the block around it",
    .traits = {Trait::causal, Trait::padding, Trait::incremental},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D E",
    .state_complexity = "D E",
    .samples = {Json{{"chunk_length", 16}}},
    .equalities = {{.statement = "with constant steps and no skip it is retention",
                    .other = "retention",
                    .other_options = {{"output_norm", false}, {"output_gate", false}},
                    .prepare = set_retention_rates,
                    .inputs = with_steps_of_one}},
}};

}  // namespace
}  // namespace attnscale
