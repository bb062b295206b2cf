#pragma once

#include <vector>

#include "scaling/power_sum.h"
#include "scaling/smooth_law.h"

// P points, K terms.

namespace attnscale {

/// An optimum found the other way round, as a second opinion on that of minimise_from_all.
struct ProjectedFit {
  PowerSum law;
  double objective = 0;         ///< sum of Huber losses, the same one
  double gradient_norm = 0;     ///< with respect to the exponents, everything else at its best
  double condition_number = 0;  ///< of the curvature in the exponents alone
  int grid = 0;                 ///< how many choices of exponents were tried
};

/// Variable projection (Golub and Pereyra 1973): for given exponents E and the coefficients are a linear problem, so
/// that only the exponents are searched for. Over a grid of exponents E, A, .. >= 0 come from non-negative least
/// squares, reweighted until they fit Huber's loss of ln L; from the best three places a Newton walk goes down in the
/// exponents, E and the coefficients being brought to their best after each step.
///
/// It shares with minimise_from_all the sum that is minimised, and neither starts nor path. A walk in all parameters at
/// once works with a condition number of 1e11, this one with about 10.
/// @param x       the columns the objective was made from [K][P]
/// @param losses  nats per token [P]
/// Cost: some 600 linear problems for two terms or more and 30 for one, each of O(P K^2) times 12.
ProjectedFit project_variables(PowerSumObjective objective, const std::vector<std::vector<double>>& x,
                               const std::vector<double>& losses);

/// The same of a law that is no sum of powers: what is not E or a coefficient is searched for, from a grid between the
/// places that starts_of gives. The law need only be nearly linear in E and the coefficients.
struct ProjectedLaw {
  LawCoordinates at{};
  double objective = 0, gradient_norm = 0, condition_number = 0;
  int grid = 0;
};
ProjectedLaw project_law(SmoothObjective objective);

/// Ratio of the largest to the smallest curvature at a place, in the literature's parameters (ln E, ln A, alpha, ...),
/// the curvature being that of reweighted least squares. Infinity where a direction has none.
double condition_number(PowerSumObjective& objective, const LawCoordinates& at);
double condition_number(SmoothObjective& objective, const LawCoordinates& at);

}  // namespace attnscale
