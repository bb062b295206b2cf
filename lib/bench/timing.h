#pragma once

#include <functional>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Times of repeated calls, in milliseconds.
struct Timing {
  std::vector<double> milliseconds;  ///< one per repetition, in the order of measurement
  double median() const;
  double minimum() const;
  double maximum() const;
  Json to_json() const;  ///< {median, minimum, maximum, repetitions}
};

/// Calls `work` `warmup` times, then `repetitions` times with a clock.
Timing measure(const std::function<void()>& work, int warmup, int repetitions);

}  // namespace attnscale
