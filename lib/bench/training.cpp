#include "bench/training.h"

#include <algorithm>
#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "bench/attention.h"
#include "bench/computed_flops.h"
#include "bench/operators.h"
#include "bench/peer_modes.h"
#include "bench/python_training.h"
#include "bench/steps.h"
#include "core/version.h"
#include "tensor/kernels/kernels.h"
#include "tensor/memory.h"
#include "train/provenance.h"
#include "train/ramp.h"

namespace attnscale {
namespace {

/// PyTorch's steps, made after ours, mode by mode.
class PythonSide {
 public:
  PythonSide(const RunConfig& config, const TrainingBench& bench)
      : training_(config, {.python = bench.python,
                           .modes = bench.modes.empty() ? python_modes : bench.modes,
                           .threads = bench.threads,
                           .warmup = std::max(1, bench.warmup),
                           .clock = bench.clock}) {
    for (const auto& mode : training_.modes()) modes_.push_back({mode, {}});
  }

  /// A turn of so many steps in each mode.
  void next(int steps) {
    for (auto& mode : modes_) mode.time.milliseconds.push_back(training_.train(mode.name, steps) / steps);
  }

  /// @param ours  one turn before each of theirs
  Json result(const Timing& ours) {
    Json result = modes_beside(modes_, ours, "step_time_ms");
    result["torch"] = training_.torch();
    result["left_out"] = training_.left_out();
    result["peak_memory_bytes"] = training_.peak_memory_bytes();
    return result;
  }

 private:
  PythonTraining training_;
  std::vector<PeerMode> modes_;
};

}  // namespace

Timing time_training_steps(const RunConfig& config, int threads, int warmup, int repetitions, double most_seconds) {
  at::set_num_threads(threads);
  Steps steps(config);
  auto timing = measure([&] { steps.next(); }, warmup, 1);
  double passed = timing.milliseconds[0];
  while (std::ssize(timing.milliseconds) < repetitions && passed < 1e3 * most_seconds) {
    timing.milliseconds.push_back(measure([&] { steps.next(); }, 0, 1).milliseconds[0]);
    passed += timing.milliseconds.back();
  }
  return timing;
}

void train_until(const RunConfig& config, const std::atomic<bool>& ended) {
  at::set_num_threads(1);
  for (Steps steps(config); !ended;) steps.next();
}

Json bench_training(const RunConfig& config, const TrainingBench& bench) {
  const auto clock = clock_named(bench.clock, bench.threads);
  if (has_ramp(config.train))
    throw ConfigError(
        fmt::format("train.{}: received a ramp, expected steps of one size; leave it out, and give "
                    "train.batch_size and data.context the size whose steps are to be timed",
                    config.train.initial_batch_size ? "initial_batch_size" : "initial_context"));
  at::set_num_threads(bench.threads);
  std::optional<PythonSide> python;
  if (!bench.python.empty()) python.emplace(config, bench);
  Steps steps(config);
  const auto next = [&] { steps.next(); };
  // The first, since counting costs time, and later ones may be a CUDA graph.
  const double computed = computed_flops(next);
  for (int i = 1; i < bench.warmup; ++i) next();
  const int steps_per_turn = python ? calls_a_turn(time_of_turn(next, 1, clock)) : 1;
  Timing timing;
  constexpr int fewest = 3;
  const double begin = now_ms(Clock::wall), most_ms = bench.most_seconds * 1e3;
  for (int repetition = 0; repetition < bench.repetitions; ++repetition) {
    if (repetition >= fewest && now_ms(Clock::wall) - begin > most_ms) break;
    timing.milliseconds.push_back(time_of_turn(next, steps_per_turn, clock));
    if (python) python->next(steps_per_turn);
  }
  const auto cost = cost_of(config);
  const double tokens = static_cast<double>(config.train.batch_size * config.data.context);
  const double gflops = computed / timing.median() * 1e-6;
  const double peak = gemm_gflops(scalar_type_named(config.train.dtype), clock);
  Json result = {{"tokens_per_second", tokens / timing.median() * 1000},
                 {"step_time_ms", timing.median()},
                 {"spread", timing.to_json()},
                 {"steps_per_turn", steps_per_turn},
                 {"threads", bench.threads},
                 {"clock", bench.clock},
                 {"dtype", config.train.dtype},
                 {"model", config.to_json()["model"]},
                 {"attention", config.to_json()["attention"]},
                 {"context", config.data.context},
                 {"batch_size", config.train.batch_size},
                 {"params", cost.parameters.total},
                 {"executed_flops_per_step", cost.flops_per_token.executed * tokens},
                 {"computed_flops_per_step", computed},
                 {"gflops", gflops},
                 {"gemm_gflops", peak},
                 {"of_gemm_peak", gflops / peak},
                 {"peak_memory_bytes", peak_memory_bytes()},
                 {"kernels", kernels_in_use()},
                 {"allocator", allocator_in_use()},
                 {"version", version},
                 {"commit", build_commit()}};
  if (bench.operators) result["operators"] = operator_times(next, bench.repetitions, clock);
  if (python) result["python"] = python->result(timing);
  return result;
}

}  // namespace attnscale
