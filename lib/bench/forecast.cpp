#include "bench/forecast.h"

#include <algorithm>
#include <cmath>

#include "bench/training.h"

namespace attnscale {
namespace {

double step_flops(const PlannedRun& run) { return run.training_flops() / static_cast<double>(run.config.train.steps); }

/// Seconds of one training step, measured; one step alone when that takes long.
double step_seconds(const PlannedRun& run) {
  const double first = time_training_steps(run.config, 1, 1, 1).median() / 1000;
  if (first > 0.5) return first;
  const int repetitions = std::clamp(static_cast<int>(0.5 / first), 3, 50);
  return time_training_steps(run.config, 1, 2, repetitions).median() / 1000;
}

/// Target tokens of all evaluations, in training steps of equal cost: a forward pass is a third of a step.
double evaluation_steps(const PlannedRun& run) {
  const auto& train = run.config.train;
  const double evaluations = std::ceil(static_cast<double>(train.steps) / static_cast<double>(train.eval_every));
  return evaluations * static_cast<double>(train.eval_tokens) / 3 /
         static_cast<double>(train.batch_size * run.config.data.context);
}

}  // namespace

Forecast forecast(const Plan& plan, int jobs) {
  if (plan.runs.empty()) return {};
  const auto by_cost = [](const PlannedRun& a, const PlannedRun& b) { return step_flops(a) < step_flops(b); };
  const auto [cheapest, dearest] = std::minmax_element(plan.runs.begin(), plan.runs.end(), by_cost);
  const double low_flops = step_flops(*cheapest), high_flops = step_flops(*dearest);
  const double low_seconds = step_seconds(*cheapest);
  const double high_seconds = high_flops > low_flops ? std::max(low_seconds, step_seconds(*dearest)) : low_seconds;
  double total = 0, longest = 0;
  for (const auto& run : plan.runs) {
    const double share = high_flops > low_flops ? (step_flops(run) - low_flops) / (high_flops - low_flops) : 0;
    const double step = low_seconds + share * (high_seconds - low_seconds);
    const double seconds = step * (static_cast<double>(run.config.train.steps) + evaluation_steps(run));
    total += seconds;
    longest = std::max(longest, seconds);
  }
  const double side_by_side = static_cast<double>(std::min<size_t>(static_cast<size_t>(jobs), plan.runs.size()));
  const double wall = std::max(longest, total / side_by_side);
  return {.seconds = wall, .low = wall / 1.5, .high = wall * 1.5};
}

}  // namespace attnscale
