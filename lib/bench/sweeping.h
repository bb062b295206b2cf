#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// A sweep of small models as people begin with: every depth and width at some learning rates.
struct SweepBench {
  std::filesystem::path program;  ///< this program, started again as worker
  std::filesystem::path folder;   ///< a place for the runs, which are removed
  int jobs = 2;                   ///< runs side by side
  std::vector<int64_t> depths = {2, 4}, widths = {32, 64, 128};
  int64_t head_dim = 32;  ///< of as many heads as fit
  std::vector<double> learning_rates = {0.0003, 0.001, 0.003, 0.01};
  int64_t steps = 500, context = 64, batch_size = 12;
  std::string dtype = "bfloat16";
  /// An interpreter that has torch: the same runs as a loop of Python processes, one after the other, each with the
  /// PyTorch loop of lib/bench/peer.py. Of every size the first is made in each of `modes`, with one thread and with
  /// `jobs`, and what was fastest counts. Empty: no comparison.
  std::string python;
  std::vector<std::string> modes = {"eager float32", "eager bfloat16"};  ///< compiling takes longer than such a run
  int64_t python_runs = 1;  ///< of the learning rates of each size; the others are taken to last as long
};

/// Size by size, our runs and then Python's, so that a machine that slows down slows both. Our times hold all that a
/// sweep does but its fits and report: workers, evaluation, logs, checkpoints, results. Python's hold the start of the
/// interpreter and the steps.
/// @return {runs, jobs, dtype, kernels, steps, seconds, processor_seconds,
///          sizes: [{depth, model_dim, runs, seconds, processor_seconds, (python: {mode, threads, runs, seconds (of
///          one),
///                   processor_seconds, tried: [{mode, threads, seconds}]})}],
///          (python: {runs (made), extrapolated, seconds (of all), processor_seconds, times_slower})}
/// @throws ConfigError where a run does not end well, or Python does not answer; IoError
Json bench_sweep(const SweepBench& bench);

}  // namespace attnscale
