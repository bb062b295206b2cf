#pragma once

#include <vector>

#include "sweep/plan.h"

namespace attnscale {

/// Puts the runs of a plan into the groups in which they may be stopped early.
/// @param problems  gets what makes the rule meaningless here, at paths of the spec: options of `by` that do not vary,
///                  comparisons at steps without an evaluation, or none below a run's end
void let_compete(Plan& plan, const StoppingRule& rule, std::vector<Problem>& problems);

}  // namespace attnscale
