// Gated linear attention (GLA): a state whose every key dimension decays by a gate of its own at each position.
// Yang et al. 2023, arXiv:2312.06635, section 4.
//
// B batch, H heads, T positions, D key width, E value width

#include <cmath>

#include <ATen/ops/full_like.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>

#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

constexpr double gated_linear_epsilon = 1e-5;

/// S_t = diag(a_t) S_{t-1} + k_t v_t^T, a_t = sigmoid(gate_t)^(1 / gate_normaliser), o_t = S_t^T q_t / sqrt(D),
/// y_t = weight * o_t / rms(o_t) * silu(output gate_t).
///
/// Both gates come from the mixer as full projections; the paper makes the decay gate of rank 16, which saves
/// parameters and restricts nothing else. Norm and output gate are the paper's (it says layer norm, its code takes the
/// root mean square with a learnt weight [E], from 1, as we do); they are options. Padded positions leave the state.
class GatedLinear : public RecurrentAttention {
 public:
  struct Options {
    double gate_normaliser = 16;
    bool output_norm = true;
    bool output_gate = true;
    int64_t chunk_length = 16;
    static Fields fields() {
      return {field(&Options::gate_normaliser, "gate_normaliser",
                    "root that is taken of the gate: the larger, the slower the state forgets")
                  .above(0),
              field(&Options::output_norm, "output_norm", "each head's output is divided by its root mean square"),
              field(&Options::output_gate, "output_gate", "each head's output is multiplied by silu of a gate"),
              field(&Options::chunk_length, "chunk_length",
                    "longest chunk, rounded down to a power of two; changes speed and rounding, not the result")
                  .between(1, longest_chunk)
                  .in("positions")};
    }
  };

  GatedLinear(const Options& options, const Geometry& geometry)
      : RecurrentAttention("gated_linear", options.chunk_length, geometry), options_(options) {
    if (options.output_norm) weight_ = register_parameter("weight", at::ones({geometry.value_dim}));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto decay = rows_of(in_double(in.gates.at("decay")).sigmoid().pow(1 / options_.gate_normaliser));
    auto outputs = for_each_state(in, in.key.size(3), [&](int64_t b, int64_t h, int64_t t, Tensor& state) {
      if (is_real(in, b, t)) state = decay[b][h][t].unsqueeze(-1) * state + at::outer(key[b][h][t], value[b][h][t]);
      return at::mv(state.t(), query[b][h][t]) / std::sqrt(static_cast<double>(in.key.size(3)));
    });
    if (options_.output_norm)
      outputs = outputs / ((outputs * outputs).mean(-1, true) + gated_linear_epsilon).sqrt() * in_double(weight_);
    if (!options_.output_gate) return outputs;
    const auto gate = in_double(in.gates.at("output"));
    return outputs * gate * at::sigmoid(gate);
  }

  static std::vector<Gate> gates(const Options& options, const Geometry& geometry) {
    std::vector<Gate> result = {{"decay", geometry.head_dim}};
    if (options.output_gate) result.push_back({"output", geometry.value_dim});
    return result;
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    return options.output_norm ? geometry.value_dim : 0;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(Engine::diagonal, geometry, sizes, options.chunk_length);
  }

 protected:
  Recurrence recurrence(const Inputs& in) const override {
    return {in.query / std::sqrt(static_cast<double>(geometry_.head_dim)), in.key, in.value,
            at::log_sigmoid(in.gates.at("decay")) / options_.gate_normaliser};
  }

  Tensor finished(const Inputs& in, const Recurrence&, const Tensor& outputs) const override {
    auto result = outputs;
    if (options_.output_norm) result = rms_normalised(outputs, gated_linear_epsilon) * weight_.to(outputs.dtype());
    return options_.output_gate ? result * at::silu(in.gates.at("output")) : result;
  }

 private:
  Options options_;
  Tensor weight_;
};

/// Decay gates that give retention's constant decays, 1 - 2^(-5-h).
Inputs with_retention_decay(const Inputs& in) {
  auto result = in;
  auto gate = at::full_like(in.gates.at("decay"), 0);
  for (int64_t h = 0; h < gate.size(1); ++h) {
    const double opened = std::pow(1 - std::pow(2.0, -5 - static_cast<double>(h)), 16);
    gate.select(1, h).fill_(std::log(opened / (1 - opened)));
  }
  result.gates["decay"] = gate;
  return result;
}

const Register<GatedLinear> register_gated_linear{{
    .name = "gated_linear",
    .family = "linear",
    .summary = "a state whose key dimensions decay by gates of their own at each position (GLA)",
    .equation = "S_t = diag(a_t) S_{t-1} + k_t v_t^T, a_t = sigmoid(decay_t)^(1/16), o_t = S_t^T q_t / sqrt(D), "
                "y_t = w * o_t / rms(o_t) * silu(output_t)",
    .source = "Yang et al. 2023, arXiv:2312.06635, section 4; decay gates as full projections, not of rank 16",
    .traits = {Trait::causal, Trait::padding, Trait::incremental},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D E",
    .state_complexity = "D E",
    .samples = {Json{{"output_norm", false}, {"output_gate", false}, {"chunk_length", 64}, {"gate_normaliser", 0.5}}},
    .equalities = {{.statement = "a constant gate for each head is retention",
                    .options = {{"output_norm", false}, {"output_gate", false}},
                    .other = "retention",
                    .other_options = {{"output_norm", false}, {"output_gate", false}},
                    .inputs = with_retention_decay}},
}};

}  // namespace
}  // namespace attnscale
