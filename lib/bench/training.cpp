#include "bench/training.h"

#include <ATen/Parallel.h>

#include "bench/attention.h"
#include "core/hash.h"
#include "core/version.h"
#include "model/transformer.h"
#include "train/provenance.h"
#include "train/stepper.h"

namespace attnscale {

Timing time_training_steps(const RunConfig& config, int threads, int warmup, int repetitions) {
  at::set_num_threads(threads);
  const auto source = config.open_source();
  const auto seed = static_cast<uint64_t>(config.train.seed);
  Transformer model(config.model, config.attention, config.data.context, stream_seed(seed, "init"));
  Stepper stepper(model, config.train);
  int64_t step = 0;
  return measure(
      [&] {
        const Batch batch = source->batch(Split::train, seed, step, config.train.batch_size, config.data.context);
        ++step;
        stepper.step(training_questions(batch, config.model, seed, step), step);
      },
      warmup, repetitions);
}

Json bench_training(const RunConfig& config, int threads, int warmup, int repetitions) {
  const auto timing = time_training_steps(config, threads, warmup, repetitions);
  const auto cost = cost_of(config);
  const double tokens = static_cast<double>(config.train.batch_size * config.data.context);
  const double flops = cost.flops_per_token.executed * tokens;
  const double gflops = flops / timing.median() * 1e-6;
  const double peak = gemm_gflops(scalar_type_named(config.train.dtype));
  return {{"tokens_per_second", tokens / timing.median() * 1000},
          {"step_time_ms", timing.median()},
          {"spread", timing.to_json()},
          {"threads", threads},
          {"dtype", config.train.dtype},
          {"model", config.to_json()["model"]},
          {"attention", config.to_json()["attention"]},
          {"context", config.data.context},
          {"batch_size", config.train.batch_size},
          {"params", cost.parameters.total},
          {"executed_flops_per_step", flops},
          {"gflops", gflops},
          {"gemm_gflops", peak},
          {"of_gemm_peak", gflops / peak},
          {"peak_memory_bytes", peak_memory_bytes()},
          {"version", version},
          {"commit", build_commit()}};
}

}  // namespace attnscale
