#pragma once

#include <vector>

#include "train/questions.h"
#include "train/run_config.h"

namespace attnscale {

/// What one step reads: `windows` of `tokens` each.
struct StepSize {
  int64_t windows = 0, tokens = 0;
  bool operator==(const StepSize&) const = default;
};

/// The size of update `step`, s from 1. Over the first R = `ramp_steps` a size grows in a line from its first value a
/// (`initial_batch_size`, `initial_context`) to its full one b: a + floor((s - 1)(b - a) / R); after them it is b.
/// Windows are rounded down to a multiple of `accumulate`. A pure function of the step: a resumed run needs no more.
/// Source: Smith et al. 2018, arXiv:1711.00489, for growing batches; Li et al. 2022, arXiv:2108.06084, section 3, for
/// windows that are cut, whose lengths there are multiples of 8.
/// @param options  resolved
StepSize step_size(const TrainOptions& options, int64_t step);

/// Whether a size grows.
bool has_ramp(const TrainOptions& options);

/// Steps that `ramp_fraction` means; at least one.
int64_t ramp_steps(const TrainOptions& options);

/// Steps in a row of one size.
struct Stretch {
  int64_t steps = 0;
  StepSize size;
};

/// The first `steps` steps. Cost: by the number of sizes, not of steps.
std::vector<Stretch> stretches(const TrainOptions& options, int64_t steps);

/// The fewest steps that hold so many tokens.
int64_t steps_that_hold(const TrainOptions& options, int64_t tokens);

/// Tokens and FLOPs of the first `steps` steps.
struct TrainingWork {
  int64_t tokens = 0;
  FlopLedger flops;  ///< of all
};

/// @param cost  `cost_of` the config
TrainingWork work_of(const RunConfig& config, const ModelCost& cost, int64_t steps);

/// What step `step`, 1-based, of a run trains on. Its windows are the first of those that a step without a ramp has,
/// their tokens the first of each.
struct StepData {
  Batch batch;  ///< what the questions view
  Questions questions;
};
StepData step_data(const Source& source, const RunConfig& config, int64_t step);

}  // namespace attnscale
