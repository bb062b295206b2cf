#pragma once

#include "sweep/plan.h"

namespace attnscale {

/// Wall-clock seconds of a sweep.
struct Forecast {
  double seconds = 0;
  /// A factor of 1.5 either way: machines are shared. A factor of 3 where no whole step was measured: work per FLOP
  /// differs with the size. Runs that may be stopped early are counted to their ends, but for the low end.
  double low = 0, high = 0;
  bool whole_steps = true;  ///< false: some step is so long that only a part of one was measured
};

/// What a training step takes on this machine, between the cheapest and the dearest that were measured.
struct StepCosts {
  double low_flops = 0, high_flops = 0;  ///< executed, of one step
  double low_seconds = 0, high_seconds = 0;
  bool whole_steps = true;

  /// Interpolated; beyond the dearest step in proportion. @param flops  of one step
  double seconds(double flops) const;
};

/// Measures the plan's cheapest and dearest run; see forecast. Cost: a few seconds.
StepCosts measure_steps(const Plan& plan);

/// Training steps that a run takes, its evaluations counted as steps of equal cost.
double steps_with_evaluations(const PlannedRun& run);

/// Measures a few training steps of the plan's cheapest and dearest run on this machine and
/// interpolates the others by FLOPs per step. Of a step that takes long, a part is measured (fewer windows, then
/// shorter ones, then fewer layers) and scaled by its FLOPs. Evaluation counts as a third of a training step per token;
/// saving and starting do not count. Cost: a few seconds, whatever the plan.
/// @param jobs  runs side by side
Forecast forecast(const Plan& plan, int jobs);

}  // namespace attnscale
