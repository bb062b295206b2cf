#include "bench/timing.h"

#include <algorithm>
#include <chrono>

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

Timing measure(const std::function<void()>& work, int warmup, int repetitions) {
  for (int i = 0; i < warmup; ++i) work();
  Timing timing;
  for (int i = 0; i < repetitions; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    timing.milliseconds.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  return timing;
}

}  // namespace attnscale
