#pragma once

#include "sweep/plan.h"

namespace attnscale {

/// Wall-clock seconds of a sweep.
struct Forecast {
  double seconds = 0;
  double low = 0, high = 0;  ///< a factor of 1.5 either way: machines are shared
};

/// Measures a few training steps of the plan's cheapest and dearest run on this machine and
/// interpolates the others by FLOPs per step. Evaluation counts as a third of a training step per
/// token; saving and starting do not count. Cost: about two seconds, more for very large models.
/// @param jobs  runs side by side
Forecast forecast(const Plan& plan, int jobs);

}  // namespace attnscale
