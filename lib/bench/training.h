#pragma once

#include "bench/timing.h"
#include "train/run_config.h"

namespace attnscale {

/// Times of whole training steps (batch, forward, backward, clip, update), each repetition one step.
/// Data come from the config's source. @param threads  set for this process
Timing time_training_steps(const RunConfig& config, int threads, int warmup, int repetitions);

/// {tokens_per_second, step_time_ms, spread: {median, minimum, maximum, repetitions}, threads, dtype, model: {...},
///  executed_flops_per_step, gflops, gemm_gflops, of_gemm_peak, peak_memory_bytes}
Json bench_training(const RunConfig& config, int threads, int warmup, int repetitions);

}  // namespace attnscale
