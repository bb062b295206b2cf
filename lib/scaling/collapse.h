#pragma once

#include <functional>
#include <vector>

#include "core/json.h"
#include "scaling/table.h"

namespace attnscale {

/// Whether the learning curves of compute-optimal runs are one curve when compute and loss are counted from their ends:
///
///   l(x) = (L(x T) - E) / (L(T) - E),   x = share of the run's tokens
///
/// {"E", "sizes", "runs", "x": [..], "mean": [..], "deviation": [..], "seed_noise": [..], "ratio", "collapses",
///  "verdict", "curves": [{"N", "D", "l": [..]}]}: at each x the mean of l over sizes, the standard deviation of l over
/// sizes (of each size's mean over seeds, relative to the mean), and what seeds alone would make of that. `ratio` is
/// the root mean square over x of deviation over that of noise; runs collapse where an F test of the two at 5 % cannot
/// tell them apart (freedom: sizes - 1 and the seeds' own, because points along a run are not independent). x = 1,
/// where l is 1 by definition, does not enter.
///
/// Of each size the runs with the tokens nearest to `best_tokens(N)` count, where several were trained; without
/// seeds there is a deviation and no verdict.
///
/// Source: Qiu et al. 2025, arXiv:2507.02119, section 2.
/// @param E            irreducible loss, below every loss
/// @param best_tokens  tokens that are best for a size; nothing: the most tokens of each size
/// @return null where fewer than three sizes have curves of six evaluations
Json collapse_report(const std::vector<Point>& points, double E,
                     const std::function<double(double N)>& best_tokens = nullptr);

}  // namespace attnscale
