#pragma once

#include <functional>
#include <string>
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

/// What a clock counts: time that passed, or time that this process spent on processors, which other work on a shared
/// machine lengthens far less.
enum class Clock { wall, processor };

/// @throws ConfigError with the known names
Clock clock_named(const std::string& name);

/// Calls `work` `warmup` times, then `repetitions` times with a clock.
Timing measure(const std::function<void()>& work, int warmup, int repetitions, Clock clock = Clock::wall);

}  // namespace attnscale
