#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/power_sum.h"

// G cells: the points of a design, each with its seeds.

namespace attnscale {

/// One cell of a design that is to be trained.
struct DesignCell {
  double N = 0, D = 0;
  int seeds = 1;
};

/// What is taken for granted when a design is judged beforehand.
struct DesignPrior {
  PowerSum law;           ///< L(N, D), N's term first
  double noise = 0.004;   ///< standard deviation of ln L between seeds
  double misfit = 0.002;  ///< of what a cell misses the law by, in ln L
  bool E_is_known = false;
  std::string source;  ///< where the law is from, in words
};

/// How well a design would determine a quantity.
struct IntervalForecast {
  std::string name;       ///< E, alpha, beta, or N_exponent: that of the best size against compute
  double value = 0;       ///< of the prior law
  double half_width = 0;  ///< of the 95 % interval; infinity where the design does not determine it
  bool promised = false;
  std::string text;  ///< `alpha 0.5 +- 0.04`, or why it is not promised and what would give it
};

/// From the Fisher information of ln L at the prior law: a cell counts with 1 / (misfit^2 + noise^2 / seeds), and
/// intervals have Student's quantile at G - parameters. An exponent is promised when its half width is at most a
/// quarter of it and its variable spans at least 8x; E when its half width is at most 3 % of it.
std::vector<IntervalForecast> forecast_intervals(const DesignPrior& prior, const std::vector<DesignCell>& cells);

/// Standard errors of (E, alpha, beta, N_exponent), by the same information; infinity where undetermined.
std::vector<double> standard_errors(const DesignPrior& prior, const std::vector<DesignCell>& cells);

/// What cells miss a fitted law by, in ln L, from its residuals: of their squares, P rms^2, seeds make noise^2 (P - G)
/// within cells, and G - parameters degrees are left for noise^2 + P / G misfit^2 between them.
/// @param points, cells  P and G  @param parameters  free ones of the law  @param noise  between seeds, in ln L
/// @return 0 where nothing is left: no degree of freedom, or residuals that noise explains
double misfit_between_cells(double rms, size_t points, size_t cells, int parameters, double noise);

/// A size that a design can have.
struct SizeOption {
  int64_t width = 0;
  double N = 0;
  double run_flops_per_step = 0;                    ///< of one run: what an IsoFLOP budget is counted in
  double flops_per_step = 0, seconds_per_step = 0;  ///< over all that a spec varies beside width, steps and seeds
  double tokens_per_step = 0;
};

enum class DesignKind { grid, isoflop };

struct DesignOptions {
  DesignKind kind = DesignKind::grid;
  double budget = 0;        ///< seconds or FLOPs, of all cells and seeds
  bool in_seconds = false;  ///< what `budget` counts
  int seeds = 2;
  int64_t min_steps = 60;  ///< shorter trainings are warm-up
};

/// What to train: size options by place, and steps.
struct Design {
  struct Cell {
    size_t size = 0;
    int64_t steps = 0;
  };
  std::vector<Cell> cells;
  double cost = 0;              ///< in the unit of the budget
  std::vector<double> budgets;  ///< isoflop: FLOPs of one run of each
};

/// The design of at most `budget` that leaves the smallest product of the standard errors of E, alpha and beta, among
/// grids of 4 to 6 widths and 4 to 6 step counts (each evenly spaced in the logarithm), or IsoFLOP designs of 3 to 5
/// budgets with 4 to 6 widths within a factor 4 of the prior's best size.
/// @param sizes  ascending in N
/// @return nothing where the budget does not reach for the smallest design
std::optional<Design> propose_design(const std::vector<SizeOption>& sizes, const DesignPrior& prior,
                                     const DesignOptions& options);

/// The next cells of a sweep, one after the other that which lowers the sum of ln variances of E, alpha and beta the
/// most per cost, as long as the budget lasts. A cell that exists already may be chosen again: as another seed. While
/// the cells do not determine the law, only others are chosen: one that determines it, or else that which adds the most
/// to the ln determinant of their information per cost.
/// @param existing    the cells that are trained
/// @param candidates  what may be trained next, by size and steps
/// @return chosen candidates by place, in order; each is one run
std::vector<size_t> next_runs(const std::vector<DesignCell>& existing, const std::vector<SizeOption>& sizes,
                              const std::vector<Design::Cell>& candidates, const DesignPrior& prior,
                              const DesignOptions& options);

}  // namespace attnscale
