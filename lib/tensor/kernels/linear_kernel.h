#pragma once

#include <optional>

#include <torch/types.h>

// M rows, K inputs, N outputs

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

}  // namespace attnscale
