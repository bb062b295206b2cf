#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "scaling/minimise.h"
#include "scaling/statistics.h"

// G groups of points that are independent of each other.

namespace attnscale {

struct BootstrapOptions {
  int replicates = 1000;
  uint64_t seed = 0;
};

/// What was drawn again.
enum class Resampling {
  residuals,      ///< mean residuals of cells, on the same design
  run_residuals,  ///< the residuals of whole runs, on the same design
  runs,           ///< whole groups with all their rows
};

struct Bootstrap {
  Resampling method = Resampling::residuals;
  int groups = 0;
  std::vector<PowerSum> laws;  ///< one per refit that converged; empty where the data leave no freedom to resample
  int failed = 0;              ///< refits that did not: no law of theirs is kept, but they count
};

/// Central percentile interval of a quantity over replicates of which some have no finite value or failed.
///
/// Nothing is dropped: +infinity and -infinity stand at their ends, and a failed replicate (as one whose value is not a
/// number) is taken to lie beyond the interval on both sides, so that it can only widen it.
/// @return nothing if an end is not finite, which is so from 2.5 % of failures on one side on (level .95)
std::optional<Interval> replicate_interval(std::vector<double> values, int failed, double level);

/// Refits resampled data, each walk starting at the optimum and at two places beside it.
///
/// Which resampling. A sweep has few cells (a cell: the seeds of one configuration), and the law
/// misses each of them by some misfit of its own. Drawing seeds would not see that misfit; drawing
/// whole cells sees it, but with 9 to 20 of them loses corners of the design in many replicates, and
/// its intervals come out up to three times too wide. So where every group is one point of the
/// design, the mean residuals of the cells are drawn instead (and apart from them the seeds'
/// deviations, cell by cell), with random sign, each mean divided by
/// sqrt(1 - leverage) (as HC2: MacKinnon and White 1985), and stretched by Student's t over the
/// normal quantile at G - parameters degrees of freedom, because few cells measure their own spread
/// badly. The deviations are kept as they are: their variance (1 - 1/m) sigma^2 and the sigma^2 / m that is in the
/// means add up to sigma^2, so that a factor sqrt(m / (m - 1)) would count seeds twice. 400 simulated sweeps of 3
/// seeds, noise .004, nominal 95 %: E covered in 97.5 % (12 cells), 95.5 % (20 cells), 96.0 % (12 cells with a random
/// misfit of .01 each); bootstrap_test.cpp repeats 100. Where groups hold several points of the design (the checkpoints
/// of one run), the residuals of whole runs are drawn in the same manner, each run's vector freed of what it fixes
/// itself, (I - H)^(-1/2) e (CR2: Bell and McCaffrey 2002): 1,000 simulated tables of 24 runs with 6 checkpoints give
/// 93 to 96
/// %. Where runs have different numbers of rows, or are no more than parameters, whole groups are drawn (Efron and
/// Tibshirani 1993, section 9.5): 94 to 99 %. Not tried again: each run's own residuals with a random sign (wild
/// bootstrap), which covers 89 to 93 %, because Huber's loss feels that no residual ever moves through 0.
///
/// The same seed gives the same replicates on every machine.
/// @param group  number of each point's group, 0 .. G - 1 [P]
/// @param cell_of_design  number of each point's distinct x [P]
/// Cost: replicates times three walks of some 15 evaluations. With more than 2,000 cells, where the optimum moves by a
/// small part of the curvature's reach, two Newton steps (k-step bootstrap: Andrews 2002).
Bootstrap bootstrap(PowerSumObjective objective, const Minimum& optimum, const std::vector<int>& group,
                    const std::vector<int>& cell_of_design, const BootstrapOptions& options);

}  // namespace attnscale
