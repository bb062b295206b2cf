#include "scaling/compute_multiplier.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "scaling/fit.h"
#include "scaling/identifiability.h"
#include "scaling/power_law.h"
#include "scaling/profile.h"

namespace attnscale {
namespace {

// A multiplier beyond this is none that the points bound.
constexpr double largest_multiplier = 1e6;

/// {E, A, alpha} or {E, A, alpha, B, beta} as a law; nothing without a floor, or where an exponent is not above 0.
std::optional<PowerSum> law_of(const Json& forms, const std::string& name) {
  const auto form = forms.find(name);
  if (form == forms.end() || form->contains("no_law") || !form->contains("E")) return std::nullopt;
  PowerSum law{.log_floor = std::log((*form)["E"].get<double>()), .terms = {}};
  if (!std::isfinite(law.log_floor)) return std::nullopt;
  for (const auto& [coefficient, exponent] : {std::pair("A", "alpha"), std::pair("B", "beta")}) {
    if (!form->contains(coefficient) || !form->contains(exponent)) continue;
    law.terms.push_back({std::log((*form)[coefficient].get<double>()), (*form)[exponent].get<double>()});
    if (!(law.terms.back().exponent > 0) || !std::isfinite(law.terms.back().log_coefficient)) return std::nullopt;
  }
  const size_t wanted = name == "L(N,D)" ? 2 : 1;
  return law.terms.size() == wanted ? std::optional(law) : std::nullopt;
}

/// Residuals drawn again, about the law itself.
Bootstrap resampled_laws(const ComputeLaw& of) {
  constexpr BootstrapOptions options{.replicates = 400, .seed = 0};
  PowerSumObjective objective(of.x, of.losses, 1e-3);
  const auto best = minimise(objective, objective.to_coordinates(of.law));
  const std::vector<double> zeros(of.losses.size(), 0.0);
  return bootstrap(objective, best, of.group, design_cells(of.x.front(), of.x.size() > 1 ? of.x[1] : zeros), options);
}

/// 95 % interval of a quantity of the law: by profile t, or by the bootstrap where the profile does not arrive, which
/// happens at laws whose floor is at its bound 0. An end beyond `open` is open: it becomes that. Where neither finds
/// both ends, one that the profile finds stands, with the other one open.
std::optional<Interval> law_interval(const ComputeLaw& law, const LawProfile::Quantity& quantity, double open) {
  const LawProfile profile(law.x, law.losses, law.group, std::nullopt, law.law);
  if (profile.freedom() < 1) return std::nullopt;
  if (const auto found = profile.interval(quantity, 0.0, open)) return found;
  std::vector<double> values;
  for (const auto& each : law.resampled.laws) {
    const double value = quantity(each);
    values.push_back(std::isfinite(value) ? std::min(value, open) : open);
  }
  if (!values.empty())
    if (const auto found = replicate_interval(std::move(values), law.resampled.failed, 0.95)) return found;
  return profile.interval(quantity, 0.0, open, /*lost_is_open=*/true);
}

double mean_loss_of_better(const PairComparison& pair) {
  std::vector<double> losses;
  for (const auto& cell : pair.cells) losses.push_back(cell.loss_b);
  return mean(losses) + std::min(0.0, *pair.difference);
}

}  // namespace

double compute_multiplier(double worse, double better, double E, double alpha) {
  if (!(better > E)) return std::numeric_limits<double>::infinity();
  return std::pow((worse - E) / (better - E), 1 / alpha);
}

double ComputeLaw::exponent(const PowerSum& law) {
  const double alpha = law.terms[0].exponent;
  if (law.terms.size() == 1) return alpha;
  return alpha * law.terms[1].exponent / (alpha + law.terms[1].exponent);
}

std::optional<ComputeLaw> compute_law(const Json& forms, const std::vector<Point>& points, const std::string& variant) {
  for (const std::string name : {"L(N,D)", "L(D)", "L(C)"}) {
    const auto law = law_of(forms, name);
    if (!law) continue;
    ComputeLaw result{.name = name + " of " + variant, .law = *law};
    std::vector<Point> fitted;
    for (const auto& point : points)
      if (point.done()) fitted.push_back(point);
    if (name == "L(C)") fitted = compute_frontier(fitted);
    if (name == "L(D)") fitted = largest_size_of_each_tokens(fitted);
    result.x.resize(law->terms.size());
    for (const auto& point : fitted) {
      result.x[0].push_back(name == "L(C)" ? point.C : name == "L(D)" ? point.D : point.N);
      if (law->terms.size() == 2) result.x[1].push_back(point.D);
      result.losses.push_back(point.L);
    }
    result.group = independent_groups(fitted);
    result.resampled = resampled_laws(result);
    return result;
  }
  return std::nullopt;
}

std::optional<ComputeMultiplier> multiplier_of(const PairComparison& pair, const ComputeLaw& worse, double level) {
  if (!pair.difference || *pair.difference == 0) return std::nullopt;
  const double better = mean_loss_of_better(pair), gap = std::abs(*pair.difference);
  const auto log_multiplier = [&](const PowerSum& law, double difference) {
    const double E = std::exp(law.log_floor);
    if (better + difference <= E) return -std::numeric_limits<double>::infinity();
    return std::log(compute_multiplier(better + difference, better, E, ComputeLaw::exponent(law)));
  };
  const double value = log_multiplier(worse.law, gap);
  if (!std::isfinite(value)) return std::nullopt;
  ComputeMultiplier result{.value = std::exp(value),
                           .E = std::exp(worse.law.log_floor),
                           .alpha = ComputeLaw::exponent(worse.law),
                           .low = {},
                           .high = {}};
  if (!pair.over_sizes) return result;
  const double open = std::log(largest_multiplier);
  auto of_law = law_interval(
      worse, [&](const PowerSum& law) { return log_multiplier(law, gap); }, open);
  if (!of_law) return result;
  // Robust and least squares may disagree: the interval holds both.
  *of_law = {std::min(of_law->low, value), std::max(of_law->high, value)};
  constexpr double normal = 1e6;  // degrees of freedom beyond any table's
  const double widening = student_t_quantile(0.5 + level / 2, normal) / student_t_quantile(0.975, normal);
  auto of_gap = pair.over_sizes->interval(level);
  if (*pair.difference < 0) of_gap = {-of_gap.high, -of_gap.low};
  const auto combined = [&](double by_gap, double by_law) {
    return std::hypot(value - by_gap, widening * (value - by_law));
  };
  result.low = std::exp(value - combined(log_multiplier(worse.law, of_gap.low), of_law->low));
  if (of_law->high < open)
    result.high = std::exp(value + combined(log_multiplier(worse.law, of_gap.high), of_law->high));
  return result;
}

}  // namespace attnscale
