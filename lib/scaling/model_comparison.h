#pragma once

#include <optional>
#include <vector>

#include "core/json.h"
#include "scaling/candidate.h"

namespace attnscale {

struct ComparisonOptions {
  double delta = 1e-3;                                  ///< Huber's, in ln L
  std::optional<double> fixed_E = std::nullopt;         ///< a known floor, for laws that have one
  std::optional<double> held_out_above = std::nullopt;  ///< compute beyond which points are predicted, not fitted
  bool intervals = false;                               ///< by profile t, where groups are cells
};

/// Candidates against each other on the same points:
///
///   [{"law", "parameters", "fitted": {NAME: value}, "intervals"?, "objective", "gradient_norm", "condition_number"?,
///     "starts", "second_opinion"?: {"objective", "gradient_norm", "starts", "agrees"}, "log_likelihood", "AIC", "BIC",
///     "delta_AIC", "delta_BIC", "held_out"?, "held_out_bias"?, "held_out_points"?}]
///
/// in ascending order of BIC. The likelihood is Laplace's for the log residuals, which is what the sum of Huber losses
/// with a small delta maximises: with S the sum of |residual| over P points, ln likelihood = -P (ln(2 S / P) + 1); one
/// parameter more is counted for the scale. Points of one run or cell are not independent: P is the number of groups,
/// and the likelihood is scaled to it.
///
/// `held_out` is the root mean square, `held_out_bias` the mean log residual (prediction above the loss is positive) at
/// the groups that reach beyond `held_out_above`, else at those of largest compute (a fifth of them, at least two),
/// predicted by the law fitted to the others; absent where those are too few.
/// @param losses   nats per token [P]
/// @param compute  what "largest" means [P]
/// @param group    number of each point's independent group [P]
Json compare_laws(const std::vector<CandidateLaw>& candidates, const std::vector<double>& losses,
                  const std::vector<double>& compute, const std::vector<int>& group,
                  const ComparisonOptions& options = {});

}  // namespace attnscale
