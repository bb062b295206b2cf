// Lightning attention: retention's recurrence with decays that follow ALiBi's slopes and fade with depth, as in
// TransNormerLLM and MiniMax-01. Qin et al. 2024, arXiv:2401.04658, section 3; MiniMax 2025, arXiv:2501.08313,
// section 2.2.
//
// B batch, H heads, T positions, n keys that a query sees, D key width, E value width

#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>

#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

constexpr double lightning_epsilon = 1e-6;

/// S_t = exp(-s_h) S_{t-1} + silu(k_t) silu(v_t)^T, o_t = S_t^T silu(q_t), y_t = weight * norm(o_t) * sigmoid(gate_t).
///
/// "Lightning" names a way to compute linear attention by chunks that stay in fast memory; the recurrence is
/// retention's. What differs is the block, which is MiniMax-01's here: slopes
/// s_h = 2^(-8 (h + 1) / H) (1 - layer / (depth - 1)), silu on q, k and v, no 1 / sqrt(D), one root mean square over
/// all heads of a position, with a learnt weight [H, E] from 1, and a sigmoid gate, which the mixer projects.
/// MiniMax's 1e-5 around the last factor is kept: the last layer decays by almost nothing.
/// A padded position is as if it were not there.
class Lightning : public RecurrentAttention {
 public:
  struct Options {
    int64_t chunk_length = 64;
    static Fields fields() { return {chunk_length_field(&Options::chunk_length)}; }
  };

  Lightning(const Options& options, const Geometry& geometry)
      : RecurrentAttention("lightning", options.chunk_length, geometry),
        weight_(register_parameter("weight", at::ones({geometry.num_heads * geometry.value_dim}))) {}

  Tensor oracle(const Inputs& in) const override {
    const auto silu = [](const Tensor& x) { return x / (1 + x.neg().exp()); };
    auto wide = in;
    wide.value = silu(oracle::in_double(in.value));
    const auto outputs = oracle::kernel_mean(
        wide, true,
        [&](const Tensor& q, int64_t, const oracle::SeenKeys& seen) {
          const auto distance = at::arange(seen.keys.size(0) - 1, -1, -1, q.options());
          return at::mv(silu(seen.keys), silu(q)) * (-slope(seen.head) * distance).exp();
        },
        [](const Tensor& sum) { return at::ones_like(sum); });
    const auto scale = ((outputs * outputs).mean({1, 3}, true) + lightning_epsilon).sqrt();
    const auto gate = 1 / (1 + oracle::in_double(in.gates.at("output")).neg().exp());
    return outputs / scale * oracle::in_double(weight_).view({geometry_.num_heads, 1, -1}) * gate;
  }

  static std::vector<Gate> gates(const Options&, const Geometry& geometry) { return {{"output", geometry.value_dim}}; }

  static int64_t parameter_count(const Options&, const Geometry& geometry) {
    return geometry.num_heads * geometry.value_dim;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(Engine::scalar, geometry, sizes, options.chunk_length);
  }

 protected:
  Recurrence recurrence(const Inputs& in) const override {
    std::vector<double> decays;
    for (int64_t h = 0; h < geometry_.num_heads; ++h) decays.push_back(-slope(h));
    const auto log_decay = torch::tensor(decays, in.query.options()).unsqueeze(-1);  // [H, 1]
    return {at::silu(in.query), at::silu(in.key), at::silu(in.value),
            log_decay.expand({in.query.size(0), -1, in.query.size(2)})};
  }

  Tensor finished(const Inputs& in, const Recurrence&, const Tensor& outputs) const override {
    return rms_normalised(outputs, lightning_epsilon, {1, 3}) *
           weight_.to(outputs.dtype()).view({geometry_.num_heads, 1, -1}) * at::sigmoid(in.gates.at("output"));
  }

 private:
  double slope(int64_t head) const {
    const double heads = geometry_.num_heads, depth = geometry_.depth;
    const double fade = 1 - geometry_.layer / (depth - 1 + 1e-5) + 1e-5;
    return std::pow(2.0, -8.0 * static_cast<double>(head + 1) / heads) * fade;
  }

  Tensor weight_;  // [H E]
};

const Register<Lightning> register_lightning{{
    .name = "lightning",
    .family = "linear",
    .summary = "retention's recurrence with ALiBi slopes that fade with depth, silu features and one norm over heads",
    .equation = "S_t = exp(-s_h) S_{t-1} + silu(k_t) silu(v_t)^T, s_h = 2^(-8 (h+1) / H) (1 - layer / (depth - 1)), "
                "o_t = S_t^T silu(q_t), y_t = w * o_t / rms over heads(o_t) * sigmoid(gate_t)",
    .source = "Qin et al. 2024, arXiv:2401.04658, section 3; block of MiniMax-01, 2025, arXiv:2501.08313, section 2.2",
    .traits = {Trait::causal, Trait::padding, Trait::incremental},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D E",
    .state_complexity = "D E",
    .samples = {Json{{"chunk_length", 16}}},
}};

}  // namespace
}  // namespace attnscale
