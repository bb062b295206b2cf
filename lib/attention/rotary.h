#pragma once

#include <string>

#include "attention/position_table.h"

// B batch, T positions, N heads of width W, D of it (even) turned

namespace attnscale {

/// How angles are changed so that a context `factor` times the one that wavelengths were made for stays within them.
///   linear:  every frequency / factor                                       (Chen et al. 2023, arXiv:2306.15595)
///   ntk:     base times factor^(D / (D - 2)), so that the highest frequency stays and the lowest is divided by factor
///            (bloc97 2023; Peng et al. 2023, arXiv:2309.00071, section 3.1)
///   yarn:    frequencies that turn more than 32 times within `trained` positions stay, those that turn less than once
///            are divided by factor, a ramp over the pair's number joins them; and queries and keys are multiplied by
///            0.1 ln factor + 1                                              (arXiv:2309.00071, sections 3.2 and 3.4)
struct RotaryScaling {
  std::string kind = "none";
  double factor = 1;
  double trained = 1;  ///< positions; yarn only
};

/// Angle per position of each pair, float64 [width / 2]. @param width  numbers that are turned, even; ntk: more than 2
Tensor rotary_frequencies(int64_t width, double base, const RotaryScaling& scaling);

/// Rotary positions: numbers i and i + D/2 of each head are a pair that position t turns by the angle t base^(-2i / D),
/// so that the product of a query and a key depends on their distance only.
///
/// Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2. The paper pairs neighbours (2i, 2i + 1); we pair halves as
/// Llama's public weights do, which is the same up to a fixed permutation of the head's numbers.
class Rotary {
 public:
  /// @param width  D: of what is turned
  Rotary(int64_t context, int64_t width, double base, const RotaryScaling& scaling = {});

  /// @param x       [B, T, N, W], of which the first D numbers of each head are turned
  /// @param offset  position of the first row
  /// @return        [B, T, N, W]; differentiable. Nothing of x's size is kept for the backward pass.
  Tensor turn(const Tensor& x, int64_t offset);

 private:
  PositionTable cosine_, sine_;  // [context, D/2]
};

}  // namespace attnscale
