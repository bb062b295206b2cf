#include "bench/timing.h"

#include <algorithm>
#include <cmath>
#include <ctime>

#include <fmt/format.h>

#include "core/error.h"
#include "core/nearest.h"

namespace attnscale {

double Timing::median() const {
  auto sorted = milliseconds;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  return sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
double Timing::minimum() const { return *std::min_element(milliseconds.begin(), milliseconds.end()); }
double Timing::maximum() const { return *std::max_element(milliseconds.begin(), milliseconds.end()); }

Json Timing::to_json() const {
  return {{"median", median()}, {"minimum", minimum()}, {"maximum", maximum()}, {"repetitions", milliseconds.size()}};
}

Clock clock_named(const std::string& name, int threads) {
  if (name == "wall") return Clock::wall;
  if (name != "processor")
    throw ConfigError(fmt::format("unknown clock \"{}\"{}", name, suggestion(name, {"wall", "processor"})));
  if (threads > 1)
    throw ConfigError(
        fmt::format("the processor's clock adds up what {} threads spend; take --threads 1, or --clock wall", threads));
  return Clock::processor;
}

double now_ms(Clock clock) {
  timespec time{};
  ::clock_gettime(clock == Clock::wall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &time);
  return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
}

Timing measure(const std::function<void()>& work, int warmup, int repetitions, Clock clock) {
  for (int i = 0; i < warmup; ++i) work();
  Timing timing;
  for (int i = 0; i < repetitions; ++i) {
    const double begin = now_ms(clock);
    work();
    timing.milliseconds.push_back(now_ms(clock) - begin);
  }
  return timing;
}

int calls_a_turn(double one_ms) {
  constexpr double turn_ms = 100, most = 1000;
  return static_cast<int>(std::clamp(std::ceil(turn_ms / one_ms), 1.0, most));
}

double time_of_turn(const std::function<void()>& work, int calls, Clock clock) {
  const double begin = now_ms(clock);
  for (int call = 0; call < calls; ++call) work();
  return (now_ms(clock) - begin) / calls;
}

Json MedianInterval::to_json() const {
  return {{"median", median}, {"low", low}, {"high", high}, {"confidence", confidence}};
}

MedianInterval median_interval(std::vector<double> values) {
  const auto count = static_cast<double>(values.size());
  const double median = Timing{values}.median();
  std::sort(values.begin(), values.end());
  // The range between the values number k from either end misses the median if k or fewer lie on one side of it.
  double missed = std::pow(0.5, count - 1), term = missed;  // both sides, k = 0
  size_t k = 0;
  while (2 * (k + 1) < values.size()) {
    term *= (count - static_cast<double>(k)) / static_cast<double>(k + 1);
    if (missed + term > 0.05) break;
    missed += term;
    ++k;
  }
  return {.median = median, .low = values[k], .high = values[values.size() - 1 - k], .confidence = 1 - missed};
}

Json times_slower(const Timing& theirs, const Timing& ours) {
  std::vector<double> ratios;
  for (size_t i = 0; i < ours.milliseconds.size(); ++i) ratios.push_back(theirs.milliseconds[i] / ours.milliseconds[i]);
  return median_interval(std::move(ratios)).to_json();
}

}  // namespace attnscale
