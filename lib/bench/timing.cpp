#include "bench/timing.h"

#include <algorithm>
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

Clock clock_named(const std::string& name) {
  if (name == "wall") return Clock::wall;
  if (name == "processor") return Clock::processor;
  throw ConfigError(fmt::format("unknown clock \"{}\"{}", name, suggestion(name, {"wall", "processor"})));
}

Timing measure(const std::function<void()>& work, int warmup, int repetitions, Clock clock) {
  const auto now = [clock] {
    timespec time{};
    ::clock_gettime(clock == Clock::wall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &time);
    return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
  };
  for (int i = 0; i < warmup; ++i) work();
  Timing timing;
  for (int i = 0; i < repetitions; ++i) {
    const double begin = now();
    work();
    timing.milliseconds.push_back(now() - begin);
  }
  return timing;
}

}  // namespace attnscale
