#pragma once

#include <torch/types.h>

namespace attnscale {

using torch::Tensor;

/// Each number is 0 with probability `drop`, otherwise it is divided by 1 - drop. One number is drawn from LibTorch's
/// default generator, the rest follows from it (`Drops`); only it is kept, and the mask is made again in the backward
/// pass. Differentiable as often as wanted.
/// @param x     of any shape, float32 or bfloat16
/// @param drop  in (0, 1)
Tensor dropout_kernel(const Tensor& x, double drop);

}  // namespace attnscale
