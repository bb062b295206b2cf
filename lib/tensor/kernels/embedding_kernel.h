#pragma once

#include <torch/types.h>

namespace attnscale {

using torch::Tensor;

/// Whether `embedding_kernel` takes these. @param position  may be undefined
bool embedding_has_kernel(const Tensor& tokens, const Tensor& token, const Tensor& position);

/// Rows of a table, scaled, and the rows of their positions: scale token[tokens[b, t]] + position[offset + t], in one
/// node; gradients are summed row after row, in the same order whatever threads there are.
/// @param tokens  int64 [B, T] @param token  float32 [V, M] @param position  float32 [C, M], or undefined: none
/// @return float32 [B, T, M]
/// @throws c10::Error for a token outside the table, or positions beyond C; NumericsError for a second derivative
Tensor embedding_kernel(const Tensor& tokens, const Tensor& token, double scale, const Tensor& position,
                        int64_t offset);

}  // namespace attnscale
