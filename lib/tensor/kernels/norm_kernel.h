#pragma once

#include <optional>

#include <torch/types.h>

// M width of what is normalised

namespace attnscale {

using torch::Tensor;

/// Which norm: over the last dimension, weight (x - mean) / sqrt(variance + epsilon) + bias, or without the mean and
/// the bias (root mean square).
struct NormKind {
  bool centred = true;
  double epsilon = 1e-5;
};

/// A stream and its norm.
struct Normed {
  Tensor stream, norm;
};

/// Whether `norm_kernel` takes these: float32 on the CPU. @param added  may be undefined
bool norm_has_kernel(const Tensor& x, const Tensor& added, const Tensor& weight);

/// The norm of x, and with `added` the norm of their sum, as one node each way: the sum is written once, read once, and
/// the gradients of stream and norm meet where they are made. Plain twin: at::layer_norm, at::rms_norm and a sum.
/// @param x      float32 [.., M] @param added  float32 or bfloat16 [.., M]; undefined: nothing
/// @param weight float32 [M] @param bias  float32 [M] or undefined
/// @param out    dtype of the norm, float32 or bfloat16
/// @return stream: x + added, float32 (x itself where nothing is added); norm, in `out`. Memory kept: stream, 2 numbers
///         a row.
Normed norm_kernel(const Tensor& x, const Tensor& added, const Tensor& weight, const Tensor& bias, const NormKind& kind,
                   at::ScalarType out);

}  // namespace attnscale
