#pragma once

#include "train/run_config.h"

namespace attnscale {

/// What a training step (batch, forward, backward, clip, update) needs at most on top of weights and the optimiser's
/// state, in bytes: tensors and the kernels' own memory, on this thread. Of the second step, which finds the state
/// made.
int64_t training_step_bytes(const RunConfig& config);

}  // namespace attnscale
