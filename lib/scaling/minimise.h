#pragma once

#include <vector>

#include "scaling/power_sum.h"

namespace attnscale {

/// Where a walk ended.
struct Minimum {
  LawCoordinates at{};
  double objective = 0;
  double gradient_norm = 0;  ///< max-norm, with respect to (ln E, ln A, alpha, ...)
  int iterations = 0;
  bool converged = false;  ///< gradient_norm below the tolerance
};

struct DescentOptions {
  int max_iterations = 500;
  double gradient_tolerance = 1e-9;         ///< the promise is 1e-8; one digit in hand
  Curvature first = Curvature::reweighted;  ///< what the walk begins with; exact near an optimum
};

/// Damped Newton walk from one start: reweighted curvature far away, exact curvature near by, the
/// damping raised until the objective falls (Levenberg 1944; Marquardt 1963). Never ends above its
/// start. Cost: `iterations` evaluations of the objective.
Minimum minimise(LogObjective& objective, const LawCoordinates& start, const DescentOptions& options = {});

/// What a search over many starts found.
struct Search {
  Minimum best;
  int starts = 0;    ///< how many were walked from
  int polished = 0;  ///< how many of these went on to convergence
};

/// Walks a few steps from every start, then goes on from the best of them until they converge; the
/// lowest objective wins. With more than 2,000 cells the first steps see an even subsample.
Search minimise_from_all(PowerSumObjective& objective, const std::vector<PowerSum>& starts);

/// The same for any law, all points in every step. @param size  how many coordinates the law has
Search minimise_from_all(LogObjective& objective, const std::vector<LawCoordinates>& starts, int size);

}  // namespace attnscale
