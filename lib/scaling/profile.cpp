#include "scaling/profile.h"

#include <algorithm>
#include <cmath>

#include "scaling/minimise.h"
#include "scaling/statistics.h"

namespace attnscale {
namespace {

using Coordinates = PowerSumObjective::Coordinates;

/// The groups' mean ln L as an objective of squares.
PowerSumObjective group_means(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                              const std::vector<int>& group, std::optional<double> fixed_E) {
  const auto groups = static_cast<size_t>(1 + *std::max_element(group.begin(), group.end()));
  std::vector<double> sums(groups, 0.0), counts(groups, 0.0);
  std::vector<std::vector<double>> columns(x.size(), std::vector<double>(groups, 0.0));
  for (size_t i = 0; i < losses.size(); ++i) {
    sums[group[i]] += std::log(losses[i]);
    counts[group[i]] += 1;
    for (size_t k = 0; k < x.size(); ++k) columns[k][group[i]] = x[k][i];
  }
  for (size_t g = 0; g < groups; ++g) sums[g] = std::exp(sums[g] / counts[g]);
  // Beyond any residual: Huber's loss is a square everywhere.
  return {columns, sums, 1e6, fixed_E};
}

/// Where the best law with a coordinate held reaches `limit`, on one side of the optimum; nothing up to `last`.
std::optional<double> crossing(PowerSumObjective objective, const Minimum& best, int coordinate, double limit,
                               double step, double last) {
  objective.hold(coordinate);
  auto along = best.at;  // the law follows the held value from step to step
  const auto value_at = [&](double held, Coordinates from) {
    from[coordinate] = held;
    const auto end = minimise(objective, from, {.max_iterations = 200, .gradient_tolerance = 1e-10});
    along = end.at;
    return end.objective;
  };
  double inside = best.at[coordinate], outside = inside;
  while (true) {
    outside = inside + step;
    if ((step > 0) == (outside > last)) return std::nullopt;
    if (value_at(outside, along) > limit) break;
    inside = outside;
    step *= 1.5;
  }
  for (int i = 0; i < 50; ++i) {
    const double middle = 0.5 * (inside + outside);
    (value_at(middle, along) > limit ? outside : inside) = middle;
  }
  return 0.5 * (inside + outside);
}

}  // namespace

Json profile_intervals(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                       const std::vector<int>& group, std::optional<double> fixed_E, const PowerSum& start,
                       const std::vector<std::string>& names) {
  auto objective = group_means(x, losses, group, fixed_E);
  Json intervals = Json::object();
  const double freedom = objective.num_points() - objective.num_free();
  if (freedom < 1) return intervals;
  const auto best = minimise(objective, objective.to_coordinates(start));
  const double t = student_t_quantile(0.975, freedom);
  const double limit = best.objective * (1 + t * t / freedom);
  if (!std::isfinite(limit) || !(best.objective > 0)) return intervals;
  const double lowest = *std::min_element(losses.begin(), losses.end());
  if (objective.floor_is_free()) {
    // Above the lowest mean no floor fits; below a thousandth of it there is none.
    const auto low = crossing(objective, best, 0, limit, -0.002, std::log(1e-3 * lowest));
    if (const auto high = crossing(objective, best, 0, limit, 0.002, std::log(2 * lowest)))
      intervals[names[0]] = {low ? std::exp(*low) : 0.0, std::exp(*high)};
  }
  for (int k = 0; k < objective.num_terms(); ++k) {
    const auto low = crossing(objective, best, 2 + 2 * k, limit, -0.01, -5);
    const auto high = crossing(objective, best, 2 + 2 * k, limit, 0.01, 50);
    if (low && high) intervals[names[1 + k]] = {*low, *high};
  }
  return intervals;
}

}  // namespace attnscale
