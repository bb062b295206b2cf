#pragma once

#include <string>

#include "train/run_config.h"

namespace attnscale {

struct CurveBench {
  int threads = 1;
  int64_t steps = 500;
  int64_t window = 50;  ///< steps whose losses are averaged: single batches are noisy, though the same for all
  /// An interpreter that has torch: lib/bench/peer.py goes along, from the same weights, in float32. Empty: without.
  std::string python = {};
};

/// Whether a fast step learns what a plain one does: trains a config as it is, with the kernels that are in use, beside
/// the same in float32 on LibTorch's operators, and beside PyTorch, all from the same weights on the same batches.
/// @return {steps, window, dtype, kernels, loss: {run, float32, (python)} of each window, a list,
///          final: {run, float32, (python)} of the last window, worst: {float32, (python)}: the largest relative
///          distance of a window's mean of the run from theirs, last: {float32, (python)}: that of the last window,
///          signed}
/// @throws ConfigError for a config that draws (dropout, stochastic depth), that PyTorch's script has no twin of, or if
/// a loss is not finite
Json bench_curve(const RunConfig& config, const CurveBench& bench);

}  // namespace attnscale
