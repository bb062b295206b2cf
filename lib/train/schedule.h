#pragma once

#include "train/run_config.h"

namespace attnscale {

/// Learning rate of update `step` (1-based): linear warm-up, then half a cosine.
///   step <= warmup_steps:  learning_rate * step / warmup_steps
///   later:                 learning_rate * (f + (1 - f) * (1 + cos(pi * p)) / 2),
///                          p = (step - warmup_steps) / (steps - warmup_steps), f = final_learning_rate
/// so that update warmup_steps has the full rate and update `steps` has f of it. A pure function of the step: a resumed
/// run needs no saved schedule.
/// Source: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, one period, with warm-up before it.
double learning_rate_at(int64_t step, const TrainOptions& options);

}  // namespace attnscale
