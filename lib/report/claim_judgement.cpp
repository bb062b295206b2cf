#include "report/claim_judgement.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "scaling/statistics.h"

namespace attnscale {
namespace {

constexpr size_t most_seeds = 1000;  // that are worth proposing

/// Of numbers about the mean of their half, or about their one mean.
double deviation_of(const ClaimSample& sample) {
  if (sample.halves.empty()) return standard_deviation(sample.numbers);
  double sum[2] = {}, count[2] = {}, squares = 0;
  for (size_t i = 0; i < sample.numbers.size(); ++i)
    sum[sample.halves[i]] += sample.numbers[i], ++count[sample.halves[i]];
  for (size_t i = 0; i < sample.numbers.size(); ++i)
    squares += std::pow(sample.numbers[i] - sum[sample.halves[i]] / count[sample.halves[i]], 2);
  return std::sqrt(squares / static_cast<double>(sample.numbers.size() - 2));
}

/// Half the width of the interval that `count` seeds have.
double half_width(const ClaimSample& sample, double deviation, size_t count, double level) {
  const bool halved = !sample.halves.empty();
  const auto counted = static_cast<double>(halved ? count / 2 : count);
  return student_t_quantile((1 + level) / 2, static_cast<double>(count - (halved ? 2 : 1))) * deviation /
         std::sqrt(counted);
}

}  // namespace

void judge(const Claim& claim, const ClaimSample& sample, double level, Json& json, std::vector<std::string>& notes) {
  json["verdict"] = "undecided";
  const auto& numbers = sample.numbers;
  if (numbers.empty()) return;
  const auto shown = [&](double number) { return claim.ratio ? std::exp(number) : number; };
  const double centre = sample.whole.value_or(mean(numbers));
  json["estimate"] = shown(centre);
  const size_t count = numbers.size(), least = sample.halves.empty() ? 2 : 3;
  if (count < least) {
    notes.push_back(count == 1 ? "one seed measures no chance"
                               : "two seeds that chose for each other measure no chance");
    json["more_seeds"] = least - count + (count == 1 ? 1 : 0);
    return;
  }
  const double deviation = deviation_of(sample);
  double largest = 0;
  for (const double number : numbers) largest = std::max(largest, std::abs(number));
  if (standard_deviation(numbers) <= 1e-12 * largest) {
    const auto needed = static_cast<size_t>(std::ceil(std::log2(2 / (1 - level))));
    notes.push_back(fmt::format("every seed gives the same: a sign test, which needs {} seeds", needed));
    if (sample.selection) return;
    if (count < needed) json["more_seeds"] = needed - count;
    else json["verdict"] = claim.expects(shown(centre)) ? "holds" : "does not hold";
    return;
  }
  /// Empty: undecided.
  const auto verdict_with = [&](double half) -> std::string {
    const double low = shown(centre - half), high = shown(centre + half);
    if (claim.expects(low) && claim.expects(high)) return "holds";
    if ((claim.above && high <= *claim.above) || (claim.below && low >= *claim.below)) return "does not hold";
    return "";
  };
  const double half = half_width(sample, deviation, count, level);
  json["low"] = shown(centre - half);
  json["high"] = shown(centre + half);
  if (sample.selection) return;
  if (const auto verdict = verdict_with(half); !verdict.empty()) {
    json["verdict"] = verdict;
    return;
  }
  for (size_t n = count + 1; n <= most_seeds; ++n)
    if (!verdict_with(half_width(sample, deviation, n, level)).empty()) {
      json["more_seeds"] = n - count;
      return;
    }
}

}  // namespace attnscale
