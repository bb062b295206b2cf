#pragma once

#include <optional>
#include <string>

#include <torch/types.h>

#include "tensor/kernels/vector_functions.h"

// M rows, K inputs, N outputs, F numbers inside a feed-forward network

namespace attnscale {

using torch::Tensor;

/// The dtype in which the products of x and a float32 `weight` have kernels here, by autocast's rules; nothing: they
/// have none, and LibTorch's operators do the work.
std::optional<at::ScalarType> product_dtype(const Tensor& x, const Tensor& weight);

/// x W^T + b, its gradients laid out as the products take them: weight gradients are sums over the rows in float32.
/// Plain twin: at::linear.
/// @param x  [.., K] @param weight  [N, K] @param bias  [N] or undefined @param dtype  from `product_dtype`
/// @return   [.., N], of `dtype`. Cost: 2 M N K FLOPs, twice as many backward.
Tensor linear_kernel(const Tensor& x, const Tensor& weight, const Tensor& bias, at::ScalarType dtype);

/// down(f(up x)), gated: down(f(gate x) * up x), by blocks of rows: what is inside stays in the cache.
/// Plain twin: `FeedForward` from at::linear and the activations of LibTorch.
/// @param x   [.., K] @param up  [F, K], gated [2 F, K], gate's rows first @param down  [K, F]
/// @return    [.., K], of `dtype`. Cost: 2 M K (F + F) FLOPs, gated 2 M K 3 F; twice as many backward.
Tensor feed_forward_kernel(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down,
                           const Tensor& down_bias, Activation activation, bool gated, at::ScalarType dtype);

}  // namespace attnscale
