#pragma once

#include <memory>

#include "attention/position_table.h"
#include "model/norm.h"

// B batch, T positions, M model width

namespace attnscale {

/// What tells each input again from the state at the last position: with z = x_T,
///   y_t = gelu(second(norm2(gelu(first(norm1(z + sinusoid(t)))))))
/// of which the model's final norm and head make logits.
/// Source: Poli et al. 2024, arXiv:2403.17844, section 3.1 (an MLP over the aggregated state), and its published code
/// (two layers of the model's width, sinusoids); norms are the model's.
/// Holds `norm1`, `norm2`, and `first` and `second` [M, M].
class Reconstruction : public torch::nn::Module {
 public:
  Reconstruction(const ModelOptions& options, int64_t context);

  /// @param x  the stream after the blocks, [B, T, M]; its last position alone is read
  /// @return   [B, T, M]
  Tensor forward(const Tensor& x);

 private:
  PositionTable sinusoid_;
  double input_scale_;  // 1 / m of muP
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Linear> first_, second_;
};

}  // namespace attnscale
