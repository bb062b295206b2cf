#pragma once

#include <optional>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Times of one variant along lengths, repetition by repetition.
struct TimeCurve {
  std::vector<double> lengths;                    ///< ascending
  std::vector<std::vector<double>> milliseconds;  ///< [length][repetition]
};

/// From which length on `curve` stays below `baseline`, by log-log interpolation between the lengths that both have.
struct Crossover {
  enum class Kind { always, at, never } kind = Kind::never;  ///< within the lengths measured
  double length = 0, low = 0, high = 0;  ///< `at`: by the medians; and range over the repetitions that cross
  double first = 0, last = 0;            ///< the lengths measured
  int64_t repetitions = 0, agree = 0;    ///< and how many of them say the same kind as the medians
  Json to_json() const;
};

/// Repetitions are paired, since both were timed side by side. Nothing where fewer than two lengths are shared.
std::optional<Crossover> crossover(const TimeCurve& curve, const TimeCurve& baseline);

/// Factor by which the median grows from the last length but one to the last, per doubling of the length; nothing for a
/// single length.
struct Growth {
  double from = 0, to = 0, factor = 0;
};
std::optional<Growth> growth_at_the_end(const std::vector<double>& lengths, const std::vector<double>& values);

/// x of values ~ lengths^x, by least squares on the logarithms; nothing for fewer than two lengths.
std::optional<double> exponent(const std::vector<double>& lengths, const std::vector<double>& values);

}  // namespace attnscale
