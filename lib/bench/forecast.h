#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "sweep/plan.h"

namespace attnscale {

/// Wall-clock seconds of a sweep, with an interval that is meant to hold nine times in ten.
struct Forecast {
  double seconds = 0;
  /// Runs that may be stopped early are counted to their ends, but for the low end.
  double low = 0, high = 0;
  bool whole_steps = true;  ///< false: some step is so long that only a part of one was measured
  double contention = 1;    ///< as MeasuredSteps::contention
};

/// What a training step takes on this machine, between the cheapest and the dearest that were measured.
struct StepCosts {
  double low_flops = 0, high_flops = 0;  ///< executed, of one step
  double low_seconds = 0, high_seconds = 0;
  bool whole_steps = true;

  /// Interpolated; beyond the dearest step in proportion. @param flops  of one step
  double seconds(double flops) const;
};

/// What runs of one plan share whose steps take time in proportion to the same number per FLOP: all words, switches and
/// lists that the axes set (variant, norm, optimizer, dtype, layers) and the group of the spec, and no number.
std::string kind_of(const PlannedRun& run);

/// Steps of every kind of run in a plan.
struct MeasuredSteps {
  std::map<std::string, StepCosts> kinds;  ///< by `kind_of`; at least one
  bool all_kinds = true;  ///< false: there were too many, and the rest is taken for the average of these
  /// Wall-clock per processor time while they were measured, as many side by side as the sweep will have: 1 on a
  /// machine with a core for each, 2 where every core is shared with one other process.
  double contention = 1;

  /// Of one step.
  double seconds(const PlannedRun& run) const;
  bool whole_steps() const;
};

/// Measures the cheapest and the dearest run of each kind, of up to six kinds those that make the most FLOPs; of a step
/// that takes long, a part (fewer windows, then shorter ones, then fewer layers), scaled by its FLOPs.
/// @param side_by_side  runs that the sweep will make at a time: as many take steps while one is measured, since they
///                      share caches, memory and cores. Cost: a few seconds, whatever the plan.
MeasuredSteps measure_steps(const Plan& plan, int side_by_side = 1);

/// What a sweep takes beside its steps.
struct FixedCosts {
  double start_seconds = 0;  ///< of this program, to its first line
  double sync_seconds = 0;   ///< until the disk has a small file
};

/// @param folder  of the results, whether it is there or not: a file is written and removed beside it
FixedCosts measure_fixed_costs(const std::filesystem::path& folder);

/// Training steps that a run takes, its evaluations counted as steps of equal cost.
double steps_with_evaluations(const PlannedRun& run);

/// The sweep's time from what was measured: each worker takes the next run of the plan when it is through with one.
/// Evaluation counts as a third of a training step per token.
///
/// The interval is a factor either way. On a machine at rest it is 1.35, for what the formula leaves out. Where others
/// work on it too, they may stop at once or come to be more: it grows with the 0.7th power of the contention. It is at
/// least 2 where some kinds were not measured, 3 where no whole step was: work per FLOP differs with the size.
Forecast forecast_of(const Plan& plan, int jobs, const MeasuredSteps& steps, const FixedCosts& fixed);

/// `forecast_of` after measuring. Cost: a few seconds. @param jobs  runs side by side  @param folder  of the results
Forecast forecast(const Plan& plan, int jobs, const std::filesystem::path& folder);

}  // namespace attnscale
