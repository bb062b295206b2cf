// Retention (RetNet): linear attention without a normaliser, whose state decays at a constant rate for each head.
// Sun et al. 2023, arXiv:2307.08621, section 2.
//
// B batch, H heads, T positions, n keys that a query sees, D key width, E value width

#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>

#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

constexpr double retention_epsilon = 1e-6;

/// S_t = gamma_h S_{t-1} + k_t v_t^T / sqrt(D), gamma_h = 1 - 2^(-5-h), o_t = S_t^T q_t;
/// y_t = o_t / rms(o_t) * silu(gate_t).
///
/// Of the paper's block the norm of each head's output and the swish gate are here (options, so that the bare
/// recurrence can be studied); the gate comes from the mixer, as do q, k, v and the output projection. The paper says
/// group norm, its code takes the root mean square, as we do. Its rotation of q and k is the model's
/// `position: rotary`; its scalings of the decay matrix and the scores cancel in the norm and are left out.
/// A padded position is as if it were not there: distances count real positions.
class Retention : public RecurrentAttention {
 public:
  struct Options {
    bool output_norm = true;
    bool output_gate = true;
    int64_t chunk_length = 64;
    static Fields fields() {
      return {field(&Options::output_norm, "output_norm", "each head's output is divided by its root mean square"),
              field(&Options::output_gate, "output_gate", "each head's output is multiplied by silu of a gate"),
              chunk_length_field(&Options::chunk_length)};
    }
  };

  Retention(const Options& options, const Geometry& geometry)
      : RecurrentAttention("retention", options.chunk_length, geometry), options_(options) {}

  Tensor oracle(const Inputs& in) const override {
    // Equation 5, the parallel form: every pair by itself.
    auto outputs = oracle::kernel_mean(
        in, true,
        [&](const Tensor& q, int64_t, const oracle::SeenKeys& seen) {
          const double gamma = 1 - std::pow(2.0, -5 - static_cast<double>(seen.head));
          const auto distance = at::arange(seen.keys.size(0) - 1, -1, -1, q.options());
          return at::mv(seen.keys, q) / std::sqrt(static_cast<double>(q.size(0))) * (distance * std::log(gamma)).exp();
        },
        [](const Tensor& sum) { return at::ones_like(sum); });
    if (options_.output_norm) outputs = outputs / ((outputs * outputs).mean(-1, true) + retention_epsilon).sqrt();
    if (!options_.output_gate) return outputs;
    const auto gate = oracle::in_double(in.gates.at("output"));
    return outputs * gate * at::sigmoid(gate);
  }

  static std::vector<Gate> gates(const Options& options, const Geometry& geometry) {
    if (!options.output_gate) return {};
    return {{"output", geometry.value_dim}};
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(Engine::scalar, geometry, sizes, options.chunk_length);
  }

 protected:
  Recurrence recurrence(const Inputs& in) const override {
    const auto head = at::arange(geometry_.num_heads, in.query.options().dtype(torch::kFloat64));
    const auto log_gamma = at::log1p(-at::exp2(-5 - head)).to(in.query.dtype()).unsqueeze(-1);  // [H, 1]
    return {in.query, in.key / std::sqrt(static_cast<double>(geometry_.head_dim)), in.value,
            log_gamma.expand({in.query.size(0), -1, in.query.size(2)})};
  }

  Tensor finished(const Inputs& in, const Recurrence&, const Tensor& outputs) const override {
    const auto normalised = options_.output_norm ? rms_normalised(outputs, retention_epsilon) : outputs;
    return options_.output_gate ? normalised * at::silu(in.gates.at("output")) : normalised;
  }

 private:
  Options options_;
};

const Register<Retention> register_retention{{
    .name = "retention",
    .family = "linear",
    .summary = "a state that decays at a constant rate for each head, with RetNet's output norm and gate; RetNet's "
               "scalings of the state, which the norm cancels up to its epsilon, are left out",
    .equation = "S_t = gamma_h S_{t-1} + k_t v_t^T / sqrt(D), gamma_h = 1 - 2^(-5-h), o_t = S_t^T q_t, "
                "y_t = o_t / rms(o_t) * silu(gate_t)",
    .source = "Sun et al. 2023, arXiv:2307.08621, section 2",
    .traits = {Trait::causal, Trait::padding, Trait::incremental},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D E",
    .state_complexity = "D E",
    .samples = {Json{{"output_norm", false}, {"output_gate", false}, {"chunk_length", 16}}},
}};

}  // namespace
}  // namespace attnscale
