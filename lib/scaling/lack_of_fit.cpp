#include "scaling/lack_of_fit.h"

#include <algorithm>
#include <cmath>

#include "scaling/minimise.h"
#include "scaling/statistics.h"

namespace attnscale {

std::optional<LackOfFit> lack_of_fit(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                                     const std::vector<int>& group, std::optional<double> fixed_E,
                                     const PowerSum& start) {
  // Beyond any residual: Huber's loss is a square everywhere.
  PowerSumObjective objective(x, losses, 1e6, fixed_E);
  const auto groups = static_cast<size_t>(1 + *std::max_element(group.begin(), group.end()));
  LackOfFit test{.fit_freedom = static_cast<double>(groups) - objective.num_free(),
                 .seed_freedom = static_cast<double>(losses.size() - groups)};
  if (test.fit_freedom < 1 || test.seed_freedom < 1) return std::nullopt;
  const auto best = minimise(objective, objective.to_coordinates(start));
  const auto predicted = objective.log_predictions(best.at);
  std::vector<double> sums(groups, 0.0), counts(groups, 0.0);
  for (size_t i = 0; i < losses.size(); ++i) {
    sums[group[i]] += objective.log_losses()[i] - predicted[i];
    counts[group[i]] += 1;
  }
  double within = 0, between = 0;
  for (size_t i = 0; i < losses.size(); ++i)
    within += std::pow(objective.log_losses()[i] - predicted[i] - sums[group[i]] / counts[group[i]], 2);
  for (size_t g = 0; g < groups; ++g) between += sums[g] * sums[g] / counts[g];
  // Seeds that agree to rounding measure no noise.
  if (!(within > 1e-24 * static_cast<double>(losses.size()))) return std::nullopt;
  test.F = (between / test.fit_freedom) / (within / test.seed_freedom);
  if (!std::isfinite(test.F)) return std::nullopt;
  test.p = f_upper_tail(test.F, test.fit_freedom, test.seed_freedom);
  test.seed_noise = std::sqrt(within / test.seed_freedom);
  return test;
}

}  // namespace attnscale
