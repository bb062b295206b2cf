#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "train/run_config.h"

namespace attnscale {

/// Times of whole training steps (batch, forward, backward, clip, update), each repetition one step.
/// Data come from the config's source. @param threads  set for this process
/// @param repetitions  at most, and at least one: none begins after `most_seconds`
Timing time_training_steps(const RunConfig& config, int threads, int warmup, int repetitions, double most_seconds);

/// Makes such steps, one thread, until told to end: work beside what is measured.
void train_until(const RunConfig& config, const std::atomic<bool>& ended);

struct TrainingBench {
  int threads = 1;
  int warmup = 5, repetitions = 30;  ///< at least one untimed step, whose FLOPs are counted
  std::string clock = "wall";        ///< or processor (one thread only): steadier where other work runs beside
  /// An interpreter that has torch: a plain PyTorch training loop (lib/bench/peer.py, eager and compiled, float32 and
  /// bfloat16 autocast) makes the same steps, in turns with ours (`calls_a_turn`). Empty: no comparison.
  std::string python = {};
  std::vector<std::string> modes = {};  ///< of `python_modes`; all when empty: compiling a large model takes minutes
  double most_seconds = 300;            ///< no repetition but the third begins later than so long after the first
  bool operators = false;               ///< adds where the time goes (`operator_times`)
};

/// {tokens_per_second, step_time_ms, spread: {median, minimum, maximum, repetitions}, steps_per_turn (1 without a
///  comparison), threads, clock, dtype,
///  model: {...}, executed_flops_per_step, computed_flops_per_step, gflops, gemm_gflops, of_gemm_peak,
///  peak_memory_bytes, python: {torch, modes: [{mode, step_time_ms, times_slower: {median, low, high, confidence}}],
///  best, left_out: [{mode, reason}], peak_memory_bytes (of all modes together)}, kernels, allocator, operators};
/// executed_flops_per_step is the plan's, by the convention of `FlopCounter`; gflops and of_gemm_peak are of
/// computed_flops_per_step, what the first step multiplies (`computed_flops`);
/// times_slower is of pairs of turns made one after the other, best the mode with the lowest median
/// @throws ConfigError for a config whose steps grow, where the PyTorch script has no twin of this config, or Python
/// does not answer
Json bench_training(const RunConfig& config, const TrainingBench& bench);

}  // namespace attnscale
