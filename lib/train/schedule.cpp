#include "train/schedule.h"

#include <cmath>
#include <numbers>

namespace attnscale {

double learning_rate_at(int64_t step, const TrainOptions& options) {
  if (step <= options.warmup_steps)
    return options.learning_rate * static_cast<double>(step) / static_cast<double>(options.warmup_steps);
  const double progress =
      static_cast<double>(step - options.warmup_steps) / static_cast<double>(options.steps - options.warmup_steps);
  const double cosine = (1 + std::cos(std::numbers::pi * progress)) / 2;
  return options.learning_rate * (options.final_learning_rate + (1 - options.final_learning_rate) * cosine);
}

}  // namespace attnscale
