#pragma once

#include <torch/types.h>

#include "tensor/kernels/vector_functions.h"

// M rows of K numbers, F inside a feed-forward network

namespace attnscale {

using torch::Tensor;

/// down(f(up x)), gated: down(f(gate x) * up x), by blocks of rows and panels of columns: what a product leaves is
/// rounded, activated and laid out for the next ones while it is in the nearest cache.
/// Plain twin: `FeedForward` from at::linear and the activations of LibTorch.
/// @param x      [.., K] @param up  [F, K], gated [2 F, K], gate's rows first @param down  [K, F]
/// @param dtype  from `product_dtype`
/// @return       [.., K], of `dtype`. Cost: 2 M K (F + F) FLOPs, gated 2 M K 3 F; twice as many backward. Keeps M F
///               numbers of `dtype` for the backward pass, gated 2 M F, and nothing where no gradient is wanted; what
///               the activation puts out is made again there, in bfloat16 from what it read as it was rounded.
Tensor feed_forward_kernel(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down,
                           const Tensor& down_bias, Activation activation, bool gated, at::ScalarType dtype);

}  // namespace attnscale
