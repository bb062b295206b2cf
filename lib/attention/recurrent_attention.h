#pragma once

#include <ATen/ops/rsqrt.h>

#include "attention/recurrence.h"

// B batch, H heads, T positions, D key width, E value width
//
// What the causal variants with a decaying state S [D, E] share: everything but how they make decays, keys and
// outputs. Each head has a state of its own, so keys are not grouped.

namespace attnscale {

/// S_t = decay_t S_{t-1} + k_t v_t^T, or with `beta` the delta rule (recurrence.h); y_t = S_t^T q_t.
/// Padded positions leave the state as it was: they neither write nor make it decay.
class RecurrentAttention : public Attention {
 public:
  Tensor forward(const Inputs& in) override;

  /// One tensor [B, H, D, E].
  State new_state(int64_t batch, torch::TensorOptions options) const override;
  Tensor decode(const Inputs& in, State& state) override;

 protected:
  RecurrentAttention(const char* name, int64_t chunk_length, const Geometry& geometry)
      : Attention(geometry), name_(name), chunk_length_(chunk_length) {}

  /// What the engine gets, all in the dtype of the sums. log_decay <= 0 is [B, H, T] or [B, H, T, D].
  struct Recurrence {
    Tensor query, key, value;     // [B, H, T, D], [B, H, T, D], [B, H, T, E]
    Tensor log_decay, beta = {};  // beta [B, H, T]
  };

  /// @param in  query, key, value and gates already in the dtype of the sums; key_padding not yet applied
  virtual Recurrence recurrence(const Inputs& in) const = 0;

  /// What becomes of S_t^T q_t, [B, H, T, E]: norms, gates, skips.
  virtual Tensor finished(const Inputs&, const Recurrence&, const Tensor& outputs) const { return outputs; }

  enum class Engine { scalar, diagonal, delta };
  static Cost cost_of(Engine engine, const Geometry& geometry, const Sizes& sizes, int64_t chunk_length);

 private:
  Recurred run(const Inputs& in, const ChunkedCall& call) const;

  const char* name_;
  int64_t chunk_length_;
};

/// x / sqrt(mean of squares + epsilon) over `dimensions`; Zhang and Sennrich 2019, arXiv:1910.07467, without a weight.
inline Tensor rms_normalised(const Tensor& x, double epsilon, at::IntArrayRef dimensions = {-1}) {
  return x * at::rsqrt((x * x).mean(dimensions, true) + epsilon);
}

/// x / sqrt(|x|^2 + 1e-6), as the delta rule's public implementations have it.
inline Tensor unit_norm(const Tensor& x) { return x * at::rsqrt((x * x).sum(-1, true) + 1e-6); }

/// Parameters of decays exp(-exp(log_rate) softplus(gate + step_bias)), drawn as Mamba-2 does (Dao and Gu 2024,
/// arXiv:2405.21060, authors' code): rates uniform from 1 to 16, steps softplus(step_bias) log-uniform from 0.001 to
/// 0.1.
/// @return [heads], float32
Tensor initial_log_rate(int64_t heads);
Tensor initial_step_bias(int64_t heads);

}  // namespace attnscale
