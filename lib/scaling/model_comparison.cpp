#include "scaling/model_comparison.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "scaling/identifiability.h"

namespace attnscale {
namespace {

double log_residual(const CandidateFit& fit, const CandidateLaw& candidate, size_t point, double loss) {
  std::vector<double> at;
  for (const auto& column : candidate.x) at.push_back(column[point]);
  return std::log(fit.loss(at)) - std::log(loss);
}

/// Groups that reach beyond the budget; without one those of largest compute, a fifth of them and at least two. [P]
std::vector<char> held_out_points(const std::vector<double>& compute, const std::vector<int>& group,
                                  std::optional<double> above) {
  std::map<int, double> largest;
  for (size_t i = 0; i < group.size(); ++i) largest[group[i]] = std::max(largest[group[i]], compute[i]);
  std::vector<std::pair<double, int>> order;
  for (const auto& [number, value] : largest) order.emplace_back(-value, number);
  std::sort(order.begin(), order.end());
  std::set<int> chosen;
  const size_t count = std::max<size_t>(2, order.size() / 5);
  for (const auto& [value, number] : order)
    if (above ? -value > *above : chosen.size() < count) chosen.insert(number);
  std::vector<char> held;
  for (const int number : group) held.push_back(chosen.count(number) > 0);
  return held;
}

struct HeldOut {
  double error = 0, bias = 0;  ///< root mean square and mean of the log residuals
  int points = 0;
};

/// At points that the fit did not see; nothing where the rest cannot determine the law.
std::optional<HeldOut> predict_held_out(const CandidateLaw& candidate, const std::vector<double>& losses,
                                        const std::vector<char>& held, const ComparisonOptions& options) {
  std::vector<std::vector<double>> x(candidate.x.size());
  std::vector<double> kept;
  std::set<std::vector<double>> cells;
  for (size_t i = 0; i < losses.size(); ++i) {
    if (held[i]) continue;
    kept.push_back(losses[i]);
    std::vector<double> at;
    for (size_t k = 0; k < x.size(); ++k) {
      x[k].push_back(candidate.x[k][i]);
      at.push_back(candidate.x[k][i]);
    }
    cells.insert(std::move(at));
  }
  if (kept.empty() || kept.size() == losses.size()) return std::nullopt;
  // A sum of powers needs three values of each variable; other laws' columns may be constant in part of the points.
  for (const auto& column : x)
    if (!candidate.smooth && distinct_values(column) < (x.size() > 2 ? 2 : 3)) return std::nullopt;
  if (static_cast<int>(cells.size()) <= free_parameters(candidate, options.fixed_E.has_value())) return std::nullopt;
  const auto fit = fit_candidate(candidate, x, kept, options.delta, options.fixed_E, false);
  HeldOut out;
  for (size_t i = 0; i < losses.size(); ++i) {
    if (!held[i]) continue;
    const double residual = log_residual(fit, candidate, i, losses[i]);
    out.error += residual * residual;
    out.bias += residual;
    ++out.points;
  }
  out.error = std::sqrt(out.error / out.points);
  out.bias /= out.points;
  return std::isfinite(out.error) ? std::optional(out) : std::nullopt;
}

/// Whether the points of each group share their columns, as seeds of one cell do.
bool groups_are_cells(const CandidateLaw& candidate, const std::vector<int>& group) {
  std::map<int, size_t> first;
  for (size_t i = 0; i < group.size(); ++i) {
    const auto other = first.emplace(group[i], i).first->second;
    for (const auto& column : candidate.x)
      if (column[i] != column[other]) return false;
  }
  return true;
}

}  // namespace

Json compare_laws(const std::vector<CandidateLaw>& candidates, const std::vector<double>& losses,
                  const std::vector<double>& compute, const std::vector<int>& group, const ComparisonOptions& options) {
  struct Entry {
    Json json;
    double AIC = 0, BIC = 0;
  };
  std::vector<Entry> entries;
  const auto held = held_out_points(compute, group, options.held_out_above);
  const double groups = group.empty() ? 0 : 1 + *std::max_element(group.begin(), group.end());
  for (const auto& candidate : candidates) {
    const int parameters = free_parameters(candidate, options.fixed_E.has_value()) + 1;  // and the scale
    if (groups <= parameters) continue;
    const auto fit = fit_candidate(candidate, candidate.x, losses, options.delta, options.fixed_E, true);
    double sum = 0;
    for (size_t i = 0; i < losses.size(); ++i) sum += std::abs(log_residual(fit, candidate, i, losses[i]));
    // Data that a law meets exactly would have an infinite likelihood; rounding is all that is left then.
    const double scale = std::max(sum / static_cast<double>(losses.size()), 1e-15);
    const double log_likelihood = -groups * (std::log(2 * scale) + 1);
    Entry entry{.json = fit_json(fit),
                .AIC = 2 * parameters - 2 * log_likelihood,
                .BIC = parameters * std::log(groups) - 2 * log_likelihood};
    entry.json["law"] = candidate.name;
    entry.json["parameters"] = parameters;
    entry.json["log_likelihood"] = log_likelihood;
    if (options.intervals && groups_are_cells(candidate, group))
      entry.json["intervals"] = candidate_intervals(candidate, fit, losses, group, options.fixed_E);
    if (const auto held_out = predict_held_out(candidate, losses, held, options)) {
      entry.json["held_out"] = held_out->error;
      entry.json["held_out_bias"] = held_out->bias;
      entry.json["held_out_points"] = held_out->points;
    }
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
