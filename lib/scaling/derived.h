#pragma once

#include <vector>

#include "core/json.h"
#include "scaling/law_intervals.h"
#include "scaling/statistics.h"

namespace attnscale {

/// Where a law L(N, D) puts a budget best, with C = 6 N D.
struct ComputeOptimum {
  double C = 0, N = 0, D = 0, loss = 0;
};

/// The optimum in closed form: with G = (alpha A / (beta B))^(1 / (alpha + beta)), N = G (C / 6)^(beta / (alpha +
/// beta)) and D = (C / 6)^(alpha / (alpha + beta)) / G.
///
/// Source: Hoffmann et al. 2022, arXiv:2203.15556, equation (4).
/// @param law  two terms with positive exponents, N's first  @param C  training FLOPs by 6 N D
ComputeOptimum compute_optimum(const PowerSum& law, double C);

/// Optimal N, D, tokens per parameter and loss at budgets from the largest one seen to a hundred times that, each with
/// a 95 % interval where the points allow one:
///
///   {"convention", "N_exponent", "budgets": [{"C", "N", "D", "tokens_per_parameter", "loss", "intervals"?,
///     "extrapolation"}]}
///
/// @param largest_C  6 N D of the largest run; `extrapolation` is C over it
Json derived_quantities(const PowerSum& law, const LawIntervals& intervals, double largest_C);

}  // namespace attnscale
