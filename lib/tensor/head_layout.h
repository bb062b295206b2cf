#pragma once

#include <vector>

#include <torch/types.h>

// B batch, T positions, N heads of width D. How the heads of attention lie in what projections put out and take: views
// without copies, in one node of the graph each way.

namespace attnscale {

using torch::Tensor;

/// The parts of a projection, side by side in its last dimension, as heads.
/// @param projected  [B, T, W] @param counts  of heads of each part, whose sum divides W
/// @return [B, N, T, D] each, views; gradients that lie as the parts do (`empty_parts`) come back as one without a copy
std::vector<Tensor> split_heads(const Tensor& projected, const std::vector<int64_t>& counts);

/// Heads as the rows that a projection takes. @param heads  [B, N, T, D]
/// @return [B, T, N D], a view where the positions lie outside the heads
Tensor join_heads(const Tensor& heads);

/// Room on the CPU for [B, H, T, D] whose positions lie outside the heads, as projections put them.
Tensor by_positions(int64_t batch, int64_t heads, int64_t positions, int64_t width, at::ScalarType type);

/// Room on the CPU for gradients of parts: side by side in one tensor where the parts are what `split_heads` gave,
/// otherwise each for itself, contiguous as its part is, which spares a leaf's gradient a copy, or with its positions
/// outside its heads.
/// @param parts  [B, N, T, D] each
std::vector<Tensor> empty_parts(const std::vector<Tensor>& parts);

}  // namespace attnscale
