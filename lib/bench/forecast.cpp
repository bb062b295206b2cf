#include "bench/forecast.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bench/training.h"
#include "model/attention_choice.h"

namespace attnscale {
namespace {

double step_flops(const PlannedRun& run) { return run.training_flops() / static_cast<double>(run.config.train.steps); }

/// FLOPs of one step of a config.
double step_flops(const RunConfig& config) {
  const auto cost = cost_of(config);
  return cost.flops_per_token.executed * static_cast<double>(config.train.batch_size * config.data.context);
}

/// The config with as much of its step as a budget of FLOPs allows, and at least one window of 16 tokens through one
/// layer: windows go first, since their number changes the time per FLOP least.
RunConfig shortened(RunConfig config, double budget) {
  while (step_flops(config) > budget) {
    auto next = config;
    if (config.train.batch_size > 1) next.train.batch_size = (config.train.batch_size + 1) / 2;
    else if (config.data.context > 256) next.data.context = (config.data.context + 1) / 2;
    else if (config.model.depth > 1) next.model.depth = (config.model.depth + 1) / 2;
    else if (config.data.context > 16) next.data.context = (config.data.context + 1) / 2;
    else break;
    next.train.accumulate = std::gcd(next.train.batch_size, next.train.accumulate);
    // A variant may want its context just so.
    if (!model_problems(next.model, next.attention, next.data.context).empty()) break;
    config = std::move(next);
  }
  return config;
}

struct StepTime {
  double seconds = 0;
  bool whole = true;  ///< false: a part was measured
};

/// Of one training step. A first part of little work tells the machine's speed, the second takes about a quarter of a
/// second.
StepTime step_time(const PlannedRun& run) {
  constexpr double first_flops = 3e8, measured_seconds = 0.25;
  const double all = step_flops(run.config);
  const auto taste = shortened(run.config, first_flops);
  const double taste_seconds = time_training_steps(taste, 1, 1, 1).median() / 1000;
  const double flops_per_second = step_flops(taste) / std::max(taste_seconds, 1e-6);
  const auto part = shortened(run.config, std::max(first_flops, flops_per_second * measured_seconds));
  const double expected = step_flops(part) / flops_per_second;
  const int repetitions = std::clamp(static_cast<int>(measured_seconds / expected), 1, 50);
  const double seconds = time_training_steps(part, 1, repetitions > 1 ? 2 : 0, repetitions).median() / 1000;
  // The run's mean step, of which a ramp makes less than its last.
  return {.seconds = seconds * step_flops(run) / step_flops(part), .whole = step_flops(part) == all};
}

/// Target tokens of all evaluations, in training steps of equal cost: a forward pass is a third of a step.
double evaluation_steps(const PlannedRun& run) {
  const auto& train = run.config.train;
  const double evaluations = std::ceil(static_cast<double>(train.steps) / static_cast<double>(train.eval_every));
  return evaluations * static_cast<double>(train.eval_tokens) / 3 / (run.tokens() / static_cast<double>(train.steps));
}

}  // namespace

double StepCosts::seconds(double flops) const {
  if (flops > high_flops) return high_seconds * flops / high_flops;
  const double share = high_flops > low_flops ? (flops - low_flops) / (high_flops - low_flops) : 0;
  return low_seconds + share * (high_seconds - low_seconds);
}

StepCosts measure_steps(const Plan& plan) {
  const auto by_cost = [](const PlannedRun& a, const PlannedRun& b) { return step_flops(a) < step_flops(b); };
  const auto [cheapest, dearest] = std::minmax_element(plan.runs.begin(), plan.runs.end(), by_cost);
  StepCosts costs{.low_flops = step_flops(*cheapest), .high_flops = step_flops(*dearest)};
  const auto low = step_time(*cheapest);
  const auto high = costs.high_flops > costs.low_flops ? step_time(*dearest) : low;
  costs.low_seconds = low.seconds;
  costs.high_seconds = std::max(low.seconds, high.seconds);
  costs.whole_steps = low.whole && high.whole;
  return costs;
}

double steps_with_evaluations(const PlannedRun& run) {
  return static_cast<double>(run.config.train.steps) + evaluation_steps(run);
}

Forecast forecast(const Plan& plan, int jobs) {
  if (plan.runs.empty()) return {};
  const auto costs = measure_steps(plan);
  double total = 0, longest = 0;
  for (const auto& run : plan.runs) {
    const double seconds = costs.seconds(step_flops(run)) * steps_with_evaluations(run);
    total += seconds;
    longest = std::max(longest, seconds);
  }
  const double side_by_side = static_cast<double>(std::min<size_t>(static_cast<size_t>(jobs), plan.runs.size()));
  const double wall = std::max(longest, total / side_by_side);
  const double factor = costs.whole_steps ? 1.5 : 3;
  const double least = wall / factor * least_work(plan).share;  // runs may be stopped early
  return {.seconds = wall, .low = least, .high = wall * factor, .whole_steps = costs.whole_steps};
}

}  // namespace attnscale
