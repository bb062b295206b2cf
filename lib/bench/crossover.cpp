#include "bench/crossover.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "bench/timing.h"

namespace attnscale {
namespace {

/// log of curve / baseline, along the shared lengths.
struct Ratio {
  std::vector<double> log_lengths, logs;
};

/// Where the ratio goes below zero for good; -infinity if it always was, +infinity if it never does.
double log_crossing(const Ratio& ratio) {
  if (ratio.logs.back() >= 0) return std::numeric_limits<double>::infinity();
  size_t i = ratio.logs.size() - 1;
  while (i > 0 && ratio.logs[i - 1] < 0) --i;
  if (i == 0) return -std::numeric_limits<double>::infinity();
  const double above = ratio.logs[i - 1], below = ratio.logs[i];
  const double part = above / (above - below);
  return ratio.log_lengths[i - 1] + part * (ratio.log_lengths[i] - ratio.log_lengths[i - 1]);
}

Crossover::Kind kind_of(double log_length) {
  if (std::isfinite(log_length)) return Crossover::Kind::at;
  return log_length > 0 ? Crossover::Kind::never : Crossover::Kind::always;
}

}  // namespace

std::optional<Crossover> crossover(const TimeCurve& curve, const TimeCurve& baseline) {
  std::vector<std::pair<size_t, size_t>> shared;  // of curve, of baseline
  for (size_t i = 0; i < curve.lengths.size(); ++i)
    for (size_t j = 0; j < baseline.lengths.size(); ++j)
      if (curve.lengths[i] == baseline.lengths[j]) shared.emplace_back(i, j);
  if (shared.size() < 2) return std::nullopt;

  const auto crossing = [&](const auto& milliseconds) {  // of a curve, at the index of a length
    Ratio ratio;
    for (const auto& [i, j] : shared) {
      ratio.log_lengths.push_back(std::log(curve.lengths[i]));
      ratio.logs.push_back(std::log(milliseconds(curve, i) / milliseconds(baseline, j)));
    }
    return log_crossing(ratio);
  };
  const double by_medians = crossing([](const TimeCurve& of, size_t i) { return Timing{of.milliseconds[i]}.median(); });
  Crossover result{.kind = kind_of(by_medians),
                   .first = curve.lengths[shared.front().first],
                   .last = curve.lengths[shared.back().first]};
  if (result.kind == Crossover::Kind::at) result.length = result.low = result.high = std::exp(by_medians);

  size_t repetitions = std::numeric_limits<size_t>::max();
  for (const auto& [i, j] : shared)
    repetitions = std::min({repetitions, curve.milliseconds[i].size(), baseline.milliseconds[j].size()});
  result.repetitions = static_cast<int64_t>(repetitions);
  for (size_t r = 0; r < repetitions; ++r) {
    const double one = crossing([r](const TimeCurve& of, size_t i) { return of.milliseconds[i][r]; });
    if (kind_of(one) != result.kind) continue;
    ++result.agree;
    if (result.kind != Crossover::Kind::at) continue;
    result.low = std::min(result.low, std::exp(one));
    result.high = std::max(result.high, std::exp(one));
  }
  return result;
}

Json Crossover::to_json() const {
  Json json = {{"kind", kind == Kind::always ? "always" : kind == Kind::never ? "never" : "at"}};
  if (kind == Kind::at) {
    json["length"] = length;
    json["low"] = low;
    json["high"] = high;
  }
  json["first"] = first;
  json["last"] = last;
  json["repetitions"] = repetitions;
  json["agree"] = agree;
  return json;
}

std::optional<Growth> growth_at_the_end(const std::vector<double>& lengths, const std::vector<double>& values) {
  if (lengths.size() < 2) return std::nullopt;
  const size_t last = lengths.size() - 1;
  const double doublings = std::log2(lengths[last] / lengths[last - 1]);
  return Growth{lengths[last - 1], lengths[last], std::pow(values[last] / values[last - 1], 1 / doublings)};
}

std::optional<double> exponent(const std::vector<double>& lengths, const std::vector<double>& values) {
  if (lengths.size() < 2) return std::nullopt;
  const double n = static_cast<double>(lengths.size());
  double x = 0, y = 0, xx = 0, xy = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const double log_length = std::log(lengths[i]), log_value = std::log(values[i]);
    x += log_length / n;
    y += log_value / n;
    xx += log_length * log_length / n;
    xy += log_length * log_value / n;
  }
  return (xy - x * y) / (xx - x * x);
}

}  // namespace attnscale
