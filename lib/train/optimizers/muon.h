#pragma once

#include "train/optimizers/adam.h"

namespace attnscale {

/// Momentum whose update is made orthogonal, for the blocks' linear maps; all else is AdamW's, at the same rate.
///   m <- momentum * m + (1 - momentum) g;  u = m, or with Nesterov's form (1 - momentum) g + momentum * m
///   w <- w - rate * decay * w;  w <- w - rate * 0.2 sqrt(max(rows, columns)) orthogonal(u)
/// Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the factor, which gives the
/// update the size of AdamW's so that both share the rate and the decay, is that of Liu et al. 2025, arXiv:2502.16982,
/// section 2.2 (PyTorch's `match_rms_adamw`). A matrix that holds several side by side, such as queries, keys and
/// values in one, is made orthogonal as a whole.
class Muon final : public Optimizer {
 public:
  Muon(std::vector<Slot> slots, const TrainOptions& options);

 private:
  void update(const Slots& slots, double learning_rate) override;
  double momentum_;
  bool nesterov_;
  int64_t iterations_;
  AdamMoments moments_;
};

/// About the nearest matrix with orthonormal rows or columns: singular values go to 0.7 to 1.2, not to 1, by the
/// Newton-Schulz iteration x <- a x + (b x x' + c (x x')^2) x with Jordan's coefficients. Computed in bfloat16, as in
/// PyTorch and by its author.
/// @param x  [N, M] @return [N, M] of bfloat16 @cost 2 min(N, M) N M (2 iterations) and lower orders
Tensor orthogonalised(const Tensor& x, int64_t iterations);

}  // namespace attnscale
