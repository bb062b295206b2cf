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

/// @throws ConfigError with the known names; for the processor's clock and several threads, whose times it adds up
Clock clock_named(const std::string& name, int threads = 1);

/// Milliseconds from some moment on.
double now_ms(Clock clock);

/// Calls `work` `warmup` times, then `repetitions` times with a clock.
Timing measure(const std::function<void()>& work, int warmup, int repetitions, Clock clock = Clock::wall);

/// How many calls make one turn of two programs that take turns on a machine: about a tenth of a second of them, since
/// the first meets caches that hold the other's data, which costs a short call half of its time and says nothing about
/// work that goes on.
/// @param one_ms  what a call takes, from a warm-up
int calls_a_turn(double one_ms);

/// Milliseconds of one call, of so many made in a row.
double time_of_turn(const std::function<void()>& work, int calls, Clock clock);

/// A median, and the range that holds the true one with `confidence` whatever the distribution (order statistics of a
/// binomial with 1/2: the sign test turned round; David & Nagaraja 2003, Order Statistics, section 7.1).
struct MedianInterval {
  double median = 0, low = 0, high = 0;
  double confidence = 0;  ///< at least 0.95, or what all of fewer than six values give
  Json to_json() const;   ///< {median, low, high, confidence}
};

/// @param values  one or more, independent
MedianInterval median_interval(std::vector<double> values);

/// How many times as long theirs took as ours, of the pairs that stand at the same place: a median interval as JSON.
/// @param theirs  as many repetitions as ours, or more
Json times_slower(const Timing& theirs, const Timing& ours);

}  // namespace attnscale
