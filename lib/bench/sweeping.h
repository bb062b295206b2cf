#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Wall-clock seconds of some work, and seconds on processors, this process's and its children's.
struct Spent {
  double seconds = 0, processor_seconds = 0;
  Spent& operator+=(const Spent& other) {
    seconds += other.seconds;
    processor_seconds += other.processor_seconds;
    return *this;
  }
};

/// What `count` runs of one size take, of which some were made: what these took, and each other as long as these on
/// average; where the first compiles, as long as those after it, which find again what it left.
/// @param made  the first runs, in order; one or more, `count` at most
Spent all_runs(const std::vector<Spent>& made, bool first_compiles, int64_t count);

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
  /// `jobs`, and what is fastest for all runs of the size counts. What a compiled mode compiles, which begins with an
  /// empty cache, its second run finds again, so that it makes two at least. Empty: no comparison.
  std::string python;
  std::vector<std::string> modes = {"eager float32", "eager bfloat16"};  ///< compiling takes longer than such a run
  int64_t python_runs = 1;  ///< of the learning rates of each size; the others' time is `all_runs`'
};

/// All sizes as one sweep, then Python's runs size by size, then the sweep once more, so that a machine that slows down
/// slows both. Our times hold all that a sweep does but its fits and report: workers, evaluation, logs, checkpoints,
/// results. Python's hold the start of the interpreter and the steps.
/// @return {runs, jobs, dtype, kernels, allocator, steps, seconds and processor_seconds (of a sweep, on average),
///          sweeps (the seconds of each),
///          sizes: [{depth, model_dim, runs, seconds (its share of a sweep's),
///                   (python: {mode, threads, runs (made), seconds and processor_seconds (of all), times_slower,
///                    tried: [{mode, threads, run_seconds}]})}],
///          (python: {runs (made, of the ways that count), extrapolated, seconds (of all), processor_seconds,
///           times_slower, lowest and highest (times_slower of a size)})}
/// @throws ConfigError where a run does not end well, or Python does not answer; IoError
Json bench_sweep(const SweepBench& bench);

}  // namespace attnscale
