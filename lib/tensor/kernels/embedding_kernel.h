#pragma once

#include <torch/types.h>

// B batch, T positions, M width, V vocabulary, C context

namespace attnscale {

using torch::Tensor;

/// Whether `embedding_kernel` takes these: tables in float32, and int64, on the CPU. @param position  may be undefined
bool embedding_has_kernel(const Tensor& token, const Tensor& position, const Tensor& tokens);

/// The rows of tokens and those of their positions, added: one pass each way. Plain twin: at::embedding and a sum.
/// Gradients are summed in the order of the tokens, whatever threads there are.
/// @param token     float32 [V, M] @param position  float32 [C, M]; undefined: none
/// @param tokens    int64 [B, T] @param offset  position of the first of each row
/// @return          float32 [B, T, M]. Memory kept: none but the tokens
/// @throws c10::IndexError on a token that is not in [0, V) @throws c10::Error if positions pass C
Tensor embedding_kernel(const Tensor& token, const Tensor& position, const Tensor& tokens, int64_t offset);

}  // namespace attnscale
