#include "scaling/candidate.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "scaling/identifiability.h"
#include "scaling/law_fit.h"
#include "scaling/law_intervals.h"
#include "scaling/parametric.h"
#include "scaling/power_law.h"
#include "scaling/profile.h"
#include "scaling/variable_projection.h"

namespace attnscale {
namespace {

std::vector<std::string> exponent_names(const CandidateLaw& candidate) {
  if (!candidate.exponents.empty()) return candidate.exponents;
  return candidate.x.size() == 1 ? std::vector<std::string>{"alpha"} : std::vector<std::string>{"alpha", "beta"};
}

/// Three terms or more: exponents from .1 to 1 each, two floors, equal shares at the middle of the points.
std::vector<PowerSum> many_term_starts(const PowerSumObjective& objective, const std::vector<double>& losses) {
  const double lowest = *std::min_element(losses.begin(), losses.end());
  const int terms = objective.num_terms();
  std::vector<LawCoordinates> places(1);
  for (int k = 0; k < terms; ++k) {
    std::vector<LawCoordinates> more;
    for (const auto& place : places)
      for (const double exponent : {0.1, 0.4, 1.0}) {
        more.push_back(place);
        more.back()[2 + 2 * k] = exponent;
      }
    places = std::move(more);
  }
  std::vector<PowerSum> starts;
  for (auto place : places)
    for (const double share : {0.95, 0.5}) {
      place[0] = objective.floor_is_free() ? std::log(share * lowest) : objective.log_fixed_floor();
      for (int k = 0; k < terms; ++k) place[1 + 2 * k] = std::log((1.1 - share) * lowest / terms);
      starts.push_back(objective.from_coordinates(place));
      if (!objective.floor_is_free()) break;
    }
  return starts;
}

CandidateFit fit_powers(const CandidateLaw& candidate, const std::vector<std::vector<double>>& x,
                        const std::vector<double>& losses, double delta, std::optional<double> fixed, bool certify) {
  PowerSumObjective objective(x, losses, delta, fixed);
  const bool is_free = objective.floor_is_free();
  auto fit = fit_law(objective,
                     x.size() == 1   ? power_law_starts(is_free)
                     : x.size() == 2 ? parametric_starts(is_free)
                                     : many_term_starts(objective, losses),
                     candidate.name);
  CandidateFit result;
  result.starts = fit.starts;
  if (certify) {
    const auto opinion = project_variables(objective, x, losses);
    if (opinion.objective < fit.objective - 1e-9)
      if (const auto end = minimise(objective, objective.to_coordinates(opinion.law)); end.objective < fit.objective) {
        fit.optimum = end;
        fit.law = objective.from_coordinates(end.at);
      }
    if (std::isfinite(opinion.objective)) result.second = {opinion.objective, opinion.gradient_norm, opinion.grid};
  }
  result.at = fit.optimum.at;
  result.objective = fit.optimum.objective;
  result.gradient_norm = fit.optimum.gradient_norm;
  result.condition_number = condition_number(objective, result.at);
  for (const auto& quantity : law_quantities(exponent_names(candidate)))
    if (quantity.name != "E" || candidate.has_floor) result.values.emplace_back(quantity.name, quantity.of(fit.law));
  result.loss = [law = fit.law](const std::vector<double>& at) { return law.at(at); };
  return result;
}

CandidateFit fit_smooth(const SmoothLaw& law, const std::vector<std::vector<double>>& x,
                        const std::vector<double>& losses, double delta, std::optional<double> fixed, bool certify) {
  SmoothObjective objective(law, x, losses, delta, fixed);
  const auto starts = starts_of(objective);
  auto search = minimise_from_all(objective, starts, law.size());
  if (search.polished == 0)
    throw NumericsError(law.name + ": no start has a finite objective; check the table for extreme values");
  CandidateFit result;
  result.starts = search.starts;
  if (certify) {
    const auto opinion = project_law(objective);
    if (opinion.objective < search.best.objective - 1e-9)
      if (const auto end = minimise(objective, opinion.at); end.objective < search.best.objective) search.best = end;
    if (std::isfinite(opinion.objective)) result.second = {opinion.objective, opinion.gradient_norm, opinion.grid};
  }
  result.at = search.best.at;
  result.objective = search.best.objective;
  result.gradient_norm = search.best.gradient_norm;
  result.condition_number = condition_number(objective, result.at);
  const auto values = law.literature(result.at);
  for (int i = 0; i < law.size(); ++i) result.values.emplace_back(law.parameters[i].name, values[i]);
  result.loss = [law, at = result.at](const std::vector<double>& point) {
    LawCoordinates unused{};
    std::vector<double> logs;
    for (const double value : point) logs.push_back(std::log(value));
    return law.loss(logs, at, unused);
  };
  return result;
}

std::optional<double> floor_of(const CandidateLaw& candidate, std::optional<double> fixed_E) {
  return candidate.has_floor ? fixed_E : std::optional<double>(0);
}

/// Mean ln L of each group, as losses, with the group's columns and its number of points.
struct GroupMeans {
  std::vector<std::vector<double>> x;
  std::vector<double> losses, counts;
};

GroupMeans means_of(const CandidateLaw& candidate, const std::vector<double>& losses, const std::vector<int>& group) {
  const auto groups = static_cast<size_t>(1 + *std::max_element(group.begin(), group.end()));
  GroupMeans means{.x = std::vector<std::vector<double>>(candidate.x.size(), std::vector<double>(groups)),
                   .losses = std::vector<double>(groups),
                   .counts = std::vector<double>(groups)};
  for (size_t i = 0; i < losses.size(); ++i) {
    const auto g = static_cast<size_t>(group[i]);
    means.losses[g] += std::log(losses[i]);
    ++means.counts[g];
    for (size_t k = 0; k < candidate.x.size(); ++k) means.x[k][g] = candidate.x[k][i];
  }
  for (size_t g = 0; g < groups; ++g) means.losses[g] = std::exp(means.losses[g] / means.counts[g]);
  return means;
}

}  // namespace

Json fit_json(const CandidateFit& fit) {
  Json json = {{"fitted", Json::object()},
               {"objective", fit.objective},
               {"gradient_norm", fit.gradient_norm},
               {"starts", fit.starts}};
  for (const auto& [name, value] : fit.values)
    if (std::isfinite(value)) json["fitted"][name] = value;
  if (std::isfinite(fit.condition_number)) json["condition_number"] = fit.condition_number;
  if (fit.second)
    json["second_opinion"] = {{"method", "variable projection"},
                              {"objective", fit.second->objective},
                              {"gradient_norm", fit.second->gradient_norm},
                              {"starts", fit.second->starts},
                              {"agrees", std::abs(fit.second->objective - fit.objective) <= 1e-9}};
  return json;
}

int free_parameters(const CandidateLaw& candidate, bool floor_is_fixed) {
  const int all = candidate.smooth ? candidate.smooth->size() : 1 + 2 * static_cast<int>(candidate.x.size());
  return all - (candidate.has_floor && !floor_is_fixed ? 0 : 1);
}

CandidateFit fit_candidate(const CandidateLaw& candidate, const std::vector<std::vector<double>>& x,
                           const std::vector<double>& losses, double delta, std::optional<double> fixed_E,
                           bool certify) {
  const auto fixed = floor_of(candidate, fixed_E);
  return candidate.smooth ? fit_smooth(*candidate.smooth, x, losses, delta, fixed, certify)
                          : fit_powers(candidate, x, losses, delta, fixed, certify);
}

Json candidate_intervals(const CandidateLaw& candidate, const CandidateFit& fit, const std::vector<double>& losses,
                         const std::vector<int>& group, std::optional<double> fixed_E) {
  const auto means = means_of(candidate, losses, group);
  const auto fixed = floor_of(candidate, fixed_E);
  const double freedom = static_cast<double>(means.losses.size()) - free_parameters(candidate, fixed_E.has_value());
  Json found = Json::object();
  // Beyond any residual Huber's loss is a square everywhere.
  constexpr double squares = 1e6;
  const auto write = [&](LogObjective& objective, const std::string& name, bool by_logarithm,
                         const std::function<double(const LawCoordinates&)>& value) {
    const auto best = minimise(objective, fit.at, {.max_iterations = 500, .gradient_tolerance = 1e-12});
    const auto interval = profile_interval(
        objective, best, freedom,
        [&](const LawCoordinates& at) { return by_logarithm ? std::log(value(at)) : value(at); }, std::nullopt,
        std::nullopt);
    if (!interval) return;
    Interval plain = by_logarithm ? Interval{std::exp(interval->low), std::exp(interval->high)} : *interval;
    // Robust and least squares may disagree; no bootstrap stands by here, as it does in `LawIntervals`.
    const double own = value(fit.at);
    plain = {std::min(plain.low, own), std::max(plain.high, own)};
    if (std::isfinite(plain.low) && std::isfinite(plain.high)) found[name] = {plain.low, plain.high};
  };
  if (candidate.smooth) {
    const auto& law = *candidate.smooth;
    SmoothObjective objective(law, means.x, means.losses, squares, fixed, means.counts);
    for (int i = fixed ? 1 : 0; i < law.size(); ++i)
      write(objective, law.parameters[i].name, law.parameters[i].is_logarithm,
            [&law, i](const LawCoordinates& at) { return law.literature(at)[static_cast<size_t>(i)]; });
    return found;
  }
  PowerSumObjective objective(means.x, means.losses, squares, fixed);
  objective.set_weights(means.counts);
  for (const auto& quantity : law_quantities(exponent_names(candidate)))
    if (quantity.name != "E" || !fixed)
      write(objective, quantity.name, quantity.positive,
            [&](const LawCoordinates& at) { return quantity.of(objective.from_coordinates(at)); });
  return found;
}

namespace {

constexpr int broken_values = 8;       // six parameters and two to contradict them
constexpr size_t broken_points = 400;  // more only take time

/// A column that every point has and that takes as many values as asked for; else empty.
std::vector<double> usable(const std::vector<Point>& points, double Point::*member, int values) {
  std::vector<double> column;
  for (const auto& point : points) column.push_back(point.*member);
  if (column.empty() || *std::min_element(column.begin(), column.end()) <= 0 || distinct_values(column) < values)
    return {};
  return column;
}

}  // namespace

std::vector<CandidateLaw> candidate_laws(const std::vector<Point>& points) {
  const auto N = usable(points, &Point::N, 3), D = usable(points, &Point::D, 3);
  const auto width = usable(points, &Point::width, 2), depth = usable(points, &Point::depth, 2);
  const auto unique = usable(points, &Point::U, 2), steps = usable(points, &Point::S, 3);
  std::vector<double> C;
  for (const auto& point : points) C.push_back(point.C > 0 ? point.C : 6 * point.N * point.D);
  const bool both_known = !N.empty() && !D.empty();
  // A bend of one curve; where two variables move the loss, either of them alone scatters, and any bend fits.
  const int num_variables = static_cast<int>(!N.empty()) + static_cast<int>(!D.empty());
  std::vector<CandidateLaw> candidates;
  const auto both = [&](const std::string& terms, const std::vector<std::vector<double>>& x) {
    candidates.push_back({"E + " + terms, x, true});
    candidates.push_back({terms, x, false});
  };
  const auto one = [&](const std::string& symbol, const std::vector<double>& x) {
    both("A " + symbol + "^-alpha", {x});
    if (num_variables > 1 || distinct_values(x) < broken_values || x.size() > broken_points) return;
    CandidateLaw broken{.name = "broken in " + symbol, .x = {x}};
    broken.smooth = broken_power_law(broken.x);
    candidates.push_back(std::move(broken));
  };
  if (both_known) both("A N^-alpha + B D^-beta", {N, D});
  if (!N.empty()) one("N", N);
  if (!D.empty()) one("D", D);
  if (both_known) one("C", C);
  // Where every step has the same tokens, steps say what tokens say.
  if (!steps.empty() && !D.empty()) {
    std::vector<double> batch;
    for (size_t i = 0; i < steps.size(); ++i) batch.push_back(D[i] / steps[i]);
    if (distinct_values(batch) > 1) one("S", steps);
  } else if (!steps.empty()) {
    one("S", steps);
  }
  if (!width.empty() && !depth.empty() && !D.empty()) {
    candidates.push_back(
        {.name = "E + A w^-a + B l^-b + C D^-c", .x = {width, depth, D}, .exponents = {"a", "b", "c"}});
    if (!N.empty())
      candidates.push_back({.name = "E + A w^-a + B l^-b + C N^-c + F D^-f",
                            .x = {width, depth, N, D},
                            .exponents = {"a", "b", "c", "f"}});
  }
  const auto repeats = [&] {
    for (size_t i = 0; i < points.size(); ++i)
      if (!unique.empty() && D[i] > 1.01 * unique[i]) return true;
    return false;
  };
  if (both_known && repeats()) {
    CandidateLaw constrained{.name = "data constrained", .x = {N, D, unique}};
    constrained.smooth = data_constrained_law(constrained.x);
    candidates.push_back(std::move(constrained));
  }
  return candidates;
}

}  // namespace attnscale
