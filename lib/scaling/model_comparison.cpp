#include "scaling/model_comparison.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "scaling/identifiability.h"
#include "scaling/law_fit.h"
#include "scaling/parametric.h"
#include "scaling/power_law.h"

namespace attnscale {
namespace {

LawFit fit_candidate(const CandidateLaw& candidate, const std::vector<std::vector<double>>& x,
                     const std::vector<double>& losses, double delta) {
  const auto fixed = candidate.has_floor ? std::nullopt : std::optional<double>(0);
  PowerSumObjective objective(x, losses, delta, fixed);
  const bool is_free = objective.floor_is_free();
  return fit_law(objective, x.size() == 2 ? parametric_starts(is_free) : power_law_starts(is_free), candidate.name);
}

double log_residual(const PowerSum& law, const CandidateLaw& candidate, size_t point, double loss) {
  std::vector<double> at;
  for (const auto& column : candidate.x) at.push_back(column[point]);
  return std::log(law.at(at)) - std::log(loss);
}

int parameters_of(const CandidateLaw& candidate) {
  return 2 * static_cast<int>(candidate.x.size()) + (candidate.has_floor ? 1 : 0);
}

/// The groups of largest compute, a fifth of them and at least two. [P]
std::vector<char> held_out_points(const std::vector<double>& compute, const std::vector<int>& group) {
  std::map<int, double> largest;
  for (size_t i = 0; i < group.size(); ++i) largest[group[i]] = std::max(largest[group[i]], compute[i]);
  std::vector<std::pair<double, int>> order;
  for (const auto& [number, value] : largest) order.emplace_back(-value, number);
  std::sort(order.begin(), order.end());
  const size_t count = std::max<size_t>(2, order.size() / 5);
  std::vector<char> held(group.size(), 0);
  for (size_t k = 0; k < std::min(count, order.size()); ++k)
    for (size_t i = 0; i < group.size(); ++i)
      if (group[i] == order[k].second) held[i] = 1;
  return held;
}

/// Root mean square log residual at held-out points; below 0 where the rest cannot determine the law.
double held_out_error(const CandidateLaw& candidate, const std::vector<double>& losses, const std::vector<char>& held,
                      double delta) {
  std::vector<std::vector<double>> x(candidate.x.size());
  std::vector<double> kept;
  for (size_t i = 0; i < losses.size(); ++i) {
    if (held[i]) continue;
    kept.push_back(losses[i]);
    for (size_t k = 0; k < x.size(); ++k) x[k].push_back(candidate.x[k][i]);
  }
  for (const auto& column : x)
    if (column.empty() || distinct_values(column) < 3) return -1;
  const auto zeros = std::vector<double>(kept.size(), 0.0);
  const auto cells = design_cells(x[0], x.size() > 1 ? x[1] : zeros);
  if (1 + *std::max_element(cells.begin(), cells.end()) <= parameters_of(candidate)) return -1;
  const auto law = fit_candidate(candidate, x, kept, delta).law;
  double squares = 0, count = 0;
  for (size_t i = 0; i < losses.size(); ++i) {
    if (!held[i]) continue;
    squares += std::pow(log_residual(law, candidate, i, losses[i]), 2);
    ++count;
  }
  return count > 0 ? std::sqrt(squares / count) : -1;
}

}  // namespace

std::vector<CandidateLaw> candidate_laws(const std::vector<Point>& points) {
  std::vector<double> N, D, C;
  for (const auto& point : points) {
    N.push_back(point.N);
    D.push_back(point.D);
    C.push_back(point.C > 0 ? point.C : 6 * point.N * point.D);
  }
  const bool has_N = !N.empty() && N.front() > 0 && distinct_values(N) >= 3;
  const bool has_D = !D.empty() && D.front() > 0 && distinct_values(D) >= 3;
  std::vector<CandidateLaw> candidates;
  const auto both = [&](const std::string& terms, const std::vector<std::vector<double>>& x) {
    candidates.push_back({"E + " + terms, x, true});
    candidates.push_back({terms, x, false});
  };
  if (has_N && has_D) both("A N^-alpha + B D^-beta", {N, D});
  if (has_N) both("A N^-alpha", {N});
  if (has_D) both("A D^-alpha", {D});
  if (has_N && has_D) both("A C^-alpha", {C});
  return candidates;
}

Json compare_laws(const std::vector<CandidateLaw>& candidates, const std::vector<double>& losses,
                  const std::vector<double>& compute, const std::vector<int>& group, double delta) {
  struct Entry {
    Json json;
    double AIC = 0, BIC = 0;
  };
  std::vector<Entry> entries;
  const auto held = held_out_points(compute, group);
  const double groups = group.empty() ? 0 : 1 + *std::max_element(group.begin(), group.end());
  for (const auto& candidate : candidates) {
    const int parameters = parameters_of(candidate) + 1;  // and the scale
    if (groups <= parameters) continue;
    const auto fit = fit_candidate(candidate, candidate.x, losses, delta);
    double sum = 0;
    for (size_t i = 0; i < losses.size(); ++i) sum += std::abs(log_residual(fit.law, candidate, i, losses[i]));
    // Data that a law meets exactly would have an infinite likelihood; rounding is all that is left then.
    const double scale = std::max(sum / static_cast<double>(losses.size()), 1e-15);
    const double log_likelihood = -groups * (std::log(2 * scale) + 1);
    Entry entry{.json = {{"law", candidate.name},
                         {"parameters", parameters},
                         {"objective", fit.objective},
                         {"log_likelihood", log_likelihood}},
                .AIC = 2 * parameters - 2 * log_likelihood,
                .BIC = parameters * std::log(groups) - 2 * log_likelihood};
    if (const double error = held_out_error(candidate, losses, held, delta); error >= 0 && std::isfinite(error))
      entry.json["held_out"] = error;
    entries.push_back(std::move(entry));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.BIC < b.BIC; });
  double lowest = 0;
  for (const auto& entry : entries) lowest = &entry == entries.data() ? entry.AIC : std::min(lowest, entry.AIC);
  Json result = Json::array();
  for (auto& entry : entries) {
    entry.json["AIC"] = entry.AIC;
    entry.json["BIC"] = entry.BIC;
    entry.json["delta_AIC"] = entry.AIC - lowest;
    entry.json["delta_BIC"] = entry.BIC - entries.front().BIC;
    result.push_back(std::move(entry.json));
  }
  return result;
}

}  // namespace attnscale
