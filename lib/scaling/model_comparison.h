#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/table.h"

namespace attnscale {

/// A law as a candidate: its variables and whether it has a floor.
struct CandidateLaw {
  std::string name;                    ///< `E + A N^-alpha + B D^-beta`
  std::vector<std::vector<double>> x;  ///< one column per term [K][P]
  bool has_floor = true;
};

/// Candidates against each other on the same points:
///
///   [{"law", "parameters", "objective", "log_likelihood", "AIC", "BIC", "delta_AIC", "delta_BIC", "held_out"?}]
///
/// in ascending order of BIC. The likelihood is Laplace's for the log residuals, which is what the sum of Huber losses
/// with a small delta maximises: with S the sum of |residual| over P points, ln likelihood = -P (ln(2 S / P) + 1); one
/// parameter more is counted for the scale. Points of one run or cell are not independent: P is the number of groups,
/// and the likelihood is scaled to it.
///
/// `held_out` is the root mean square log residual at the groups of largest compute (a fifth of them, at least two),
/// predicted by the law fitted to the others; absent where those are too few.
/// @param losses   nats per token [P]
/// @param compute  what "largest" means [P]
/// @param group    number of each point's independent group [P]
Json compare_laws(const std::vector<CandidateLaw>& candidates, const std::vector<double>& losses,
                  const std::vector<double>& compute, const std::vector<int>& group, double delta);

/// The candidates that a table bears: with and without a floor, in N and D, N alone, D alone and C alone.
std::vector<CandidateLaw> candidate_laws(const std::vector<Point>& points);

}  // namespace attnscale
