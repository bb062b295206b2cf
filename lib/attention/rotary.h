#pragma once

#include "attention/position_table.h"

// B batch, T positions, N heads, D head width (even)

namespace attnscale {

/// Rotary positions: numbers i and i + D/2 of each head are a pair that position t turns by the angle t base^(-2i / D),
/// so that the product of a query and a key depends on their distance only.
///
/// Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2. The paper pairs neighbours (2i, 2i + 1); we pair halves as
/// Llama's public weights do, which is the same up to a fixed permutation of the head's numbers.
class Rotary {
 public:
  Rotary(int64_t context, int64_t head_dim, double base);

  /// @param x       [B, T, N, D]
  /// @param offset  position of the first row
  /// @return        [B, T, N, D], turned; differentiable. Nothing of x's size is kept for the backward pass.
  Tensor turn(const Tensor& x, int64_t offset);

 private:
  PositionTable cosine_, sine_;  // [context, D/2]
};

}  // namespace attnscale
