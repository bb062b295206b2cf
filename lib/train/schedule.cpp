#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace attnscale {
namespace {

/// From 1 to 0 as progress goes from 0 to 1.
double half_cosine(double progress) { return (1 + std::cos(std::numbers::pi * progress)) / 2; }

/// From `high` to `low` as `height` goes from 1 to 0.
double blend(double low, double high, double height) { return low + (high - low) * height; }

// Both as a fraction of the full rate.

double fraction_in_cosine_warmup(int64_t step, const TrainOptions& o) {
  if (step == *o.warmup_steps) return 1;
  const double progress = static_cast<double>(step - 1) / static_cast<double>(*o.warmup_steps - 1);
  return blend(o.initial_learning_rate, 1, 1 - half_cosine(progress));
}

double fraction_after_warmup(int64_t step, const TrainOptions& o) {
  const int64_t since = step - *o.warmup_steps;
  const double last_fraction = o.final_learning_rate.value_or(0);
  const double progress = static_cast<double>(since) / static_cast<double>(o.steps - *o.warmup_steps);
  if (o.schedule == "constant" || o.schedule == "schedule_free") return 1;
  if (o.schedule == "linear") return blend(last_fraction, 1, 1 - progress);
  if (o.schedule == "inverse_sqrt")
    return std::sqrt(static_cast<double>(std::max<int64_t>(1, *o.warmup_steps)) / static_cast<double>(step));
  if (o.schedule == "wsd") {
    const double left = static_cast<double>(o.steps - step) / static_cast<double>(decay_steps(o));
    return blend(last_fraction, 1, std::min(1.0, left));
  }
  if (o.schedule == "step") return std::pow(o.decay_factor, static_cast<double>((since - 1) / *o.decay_every));
  return blend(last_fraction, 1, half_cosine(progress));  // cosine, one_cycle
}

}  // namespace

double learning_rate_at(int64_t step, const TrainOptions& options) {
  // Multiplied in this order, so that the bits are those of earlier versions.
  if (step > *options.warmup_steps) return options.learning_rate * fraction_after_warmup(step, options);
  if (options.schedule == "one_cycle") return options.learning_rate * fraction_in_cosine_warmup(step, options);
  return options.learning_rate * static_cast<double>(step) / static_cast<double>(*options.warmup_steps);
}

}  // namespace attnscale
