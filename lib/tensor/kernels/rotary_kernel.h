#pragma once

#include <torch/types.h>

namespace attnscale {

using torch::Tensor;

/// Pairs of numbers, i and i + R/2 of each head's first R, turned by the angles of their position; what a head has
/// beyond them stays. One pass each way, in float32. Nothing of x's size is kept; differentiable as often as wanted.
/// @param x       [B, T, N, W], W >= R
/// @param cosine  [T, R/2], of x's dtype, of the angles
/// @param sine    likewise
/// @return        [B, T, N, W], contiguous
Tensor rotary_kernel(const Tensor& x, const Tensor& cosine, const Tensor& sine);

}  // namespace attnscale
