#pragma once

#include <vector>

#include "attention/attention.h"

// H heads, T positions, M width of the residual stream, E value width

namespace attnscale {

/// How much each head attends to what followed the current token when it came before, on a window whose second half
/// repeats its first: the mean over the second half's positions t of the weight on s = t - T / 2 + 1, absolute weights
/// brought to a sum of 1 per query. 1 for a pure induction head, about 2 / T for one that attends to all alike.
/// Source: Olsson et al. 2022, arXiv:2209.11895, section "Argument 4" (prefix matching score on repeated random
/// tokens).
/// @param map  [H, T, T], T even, at least 4 @return one per head
std::vector<double> induction_scores(const Tensor& map);

/// Overlap of the subspaces of the stream that heads write to: |U_g^T U_h|_F^2 / E with U_h an orthonormal basis of the
/// columns of head h in the output projection. It is the mean squared cosine of the principal angles (Bjoerck and Golub
/// 1973): 1 for the same subspace, 0 for orthogonal ones, E / M on average for random ones.
/// @param output  [M, H E], E <= M @return [H, H]
Tensor subspace_overlaps(const Tensor& output, int64_t num_heads);

/// Mean over pairs of different heads. @param overlaps  [H, H], H at least 2
double mean_overlap(const Tensor& overlaps);

}  // namespace attnscale
