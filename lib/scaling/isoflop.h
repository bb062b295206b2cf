#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/flags.h"
#include "scaling/table.h"

namespace attnscale {

/// How the minimum of a budget's loss over sizes is found.
enum class IsoFlopMethod {
  parabola,  ///< of the loss in ln N (Hoffmann et al. 2022, arXiv:2203.15556, approach 2)
  akima,     ///< minimum of Akima's interpolation (Akima 1970; used so by Porian et al. 2024, arXiv:2406.19146)
};

/// Runs of one budget, and the size that was best for it.
struct IsoFlopBudget {
  double C = 0;          ///< training FLOPs, geometric mean of its runs
  double N = 0, D = 0;   ///< the best size and its tokens
  double loss = 0;       ///< there, nats per token
  double log_error = 0;  ///< standard error of ln N by the parabola's residuals; 0 where there are none
  int sizes = 0;         ///< distinct N
  bool at_edge = false;  ///< the best size is the smallest or the largest: no minimum was bracketed
  Flags flags;
};

/// A power law of the best size against the budget: coefficient C^exponent.
struct BudgetLaw {
  double log_coefficient = 0, exponent = 0;
  double exponent_error = 0;  ///< standard error; 0 for two budgets
  double at(double C) const;
};

struct IsoFlopFit {
  std::vector<IsoFlopBudget> budgets;  ///< that bracket a minimum and those that do not, by C
  BudgetLaw N, D;
  bool fitted = false;  ///< at least two budgets bracket a minimum
  Flags flags;
};

/// Budgets of a table: runs whose C (the column, else 6 N D) agree within 5 %, with at least four sizes each. [budgets]
std::vector<std::vector<Point>> budgets_of(const std::vector<Point>& points);

/// Minimum of the loss over sizes at each budget, and N and D there against C by log-log least squares, weighted by
/// the parabola's errors where there are such.
///
/// D at the minimum is that of the runs of the budget: ln D is interpolated in ln N.
/// Biased even without noise: on a Chinchilla-like surface a grid of 15 sizes within a factor w of the optimum puts D
/// off by -.33, -1.30, -2.90, -5.10 % for w = 2, 4, 8, 16; the flags of a wide or off-centre grid say so.
IsoFlopFit fit_isoflop(const std::vector<std::vector<Point>>& budgets, IsoFlopMethod method);

/// {"parabola": {"budgets", "N", "D", "flags"}, "akima": the same}; null below two budgets.
Json isoflop_report(const std::vector<Point>& points);

}  // namespace attnscale
