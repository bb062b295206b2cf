#include "scaling/comparison.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include <fmt/format.h>

namespace attnscale {
namespace {

/// Runs of one variant by key; the later of two with one key counts.
using RunsByKey = std::map<std::string, size_t>;

std::vector<double> cell_means(const std::vector<PairedCell>& cells) {
  std::vector<double> means;
  for (const auto& cell : cells) means.push_back(mean(cell.differences));
  return means;
}

std::optional<Estimate> over_sizes(const std::vector<PairedCell>& cells) {
  // Seeds of one size share what that size does to the two variants, so that sizes are the sample.
  const auto sample = cells.size() == 1 ? cells.front().differences : cell_means(cells);
  if (sample.size() < 2) return std::nullopt;
  const auto count = static_cast<double>(sample.size());
  return Estimate{
      .value = mean(sample), .standard_error = standard_deviation(sample) / std::sqrt(count), .freedom = count - 1};
}

std::optional<Estimate> at_these_sizes(const std::vector<PairedCell>& cells) {
  double squares = 0, freedom = 0, inverse_counts = 0;
  for (const auto& cell : cells) {
    if (cell.differences.size() < 2) return std::nullopt;
    const auto count = static_cast<double>(cell.differences.size());
    squares += std::pow(standard_deviation(cell.differences), 2) * (count - 1);
    freedom += count - 1;
    inverse_counts += 1 / count;
  }
  if (freedom < 1) return std::nullopt;
  const auto sizes = static_cast<double>(cells.size());
  return Estimate{.value = mean(cell_means(cells)),
                  .standard_error = std::sqrt(squares / freedom * inverse_counts) / sizes,
                  .freedom = freedom};
}

PairComparison compare_two(const std::string& a, const std::string& b, const std::vector<PairedRun>& runs,
                           const RunsByKey& of_a, const RunsByKey& of_b) {
  PairComparison result;
  result.a = a;
  result.b = b;
  std::map<std::string, PairedCell> cells;
  std::vector<double> log_ratios;
  for (const auto& [key, first] : of_a) {
    const auto found = of_b.find(key);
    if (found == of_b.end()) continue;
    const auto &run_a = runs[first], &run_b = runs[found->second];
    if (!run_a.done || !run_b.done) {
      ++result.lost;
      continue;
    }
    auto& cell = cells.try_emplace(run_a.cell, PairedCell{.run_a = first, .run_b = found->second, .differences = {}})
                     .first->second;
    cell.differences.push_back(run_a.loss - run_b.loss);
    cell.loss_b += (run_b.loss - cell.loss_b) / static_cast<double>(cell.differences.size());
    ++result.pairs;
    if (run_a.params > 0 && run_b.params > 0) log_ratios.push_back(std::log(run_a.params / run_b.params));
  }
  if (!log_ratios.empty()) {
    const auto [low, high] = std::minmax_element(log_ratios.begin(), log_ratios.end());
    result.params_low = std::exp(*low);
    result.params_high = std::exp(*high);
    result.params_ratio = std::exp(mean(log_ratios));
  }
  for (auto& [name, cell] : cells) result.cells.push_back(std::move(cell));
  if (result.cells.empty()) return result;
  result.difference = mean(cell_means(result.cells));
  result.over_sizes = over_sizes(result.cells);
  result.at_these_sizes = at_these_sizes(result.cells);
  return result;
}

/// Holm 1979: the k-th smallest of n p-values counts n - k + 1 times, and never less than the one before it.
void correct_for_number(std::vector<PairComparison>& comparisons) {
  std::vector<PairComparison*> tested;
  for (auto& comparison : comparisons)
    if (comparison.over_sizes && !comparison.one_seed()) tested.push_back(&comparison);
  std::stable_sort(tested.begin(), tested.end(), [](const auto* one, const auto* other) {
    return one->over_sizes->p_value() < other->over_sizes->p_value();
  });
  double last = 0;
  for (size_t k = 0; k < tested.size(); ++k) {
    tested[k]->comparisons = tested.size();
    last = std::max(last, tested[k]->over_sizes->p_value() * static_cast<double>(tested.size() - k));
    tested[k]->corrected_p = std::min(1.0, last);
  }
}

bool sign_changes(const PairComparison& comparison) {
  const auto means = cell_means(comparison.cells);
  const auto [low, high] = std::minmax_element(means.begin(), means.end());
  return *low < 0 && *high > 0;
}

Json as_json(const PairComparison& comparison) {
  Json result = {{"a", comparison.a},
                 {"b", comparison.b},
                 {"pairs", comparison.pairs},
                 {"cells", comparison.cells.size()},
                 {"lost_pairs", comparison.lost}};
  if (comparison.cells.size() > 1) result["sign_changes_with_size"] = sign_changes(comparison);
  if (comparison.params_ratio > 0) result["params_ratio"] = comparison.params_ratio;
  if (comparison.difference) result["mean_difference"] = *comparison.difference;
  if (const auto& estimate = comparison.over_sizes) {
    const auto alone = estimate->interval(0.95), together = estimate->interval(comparison.corrected_level());
    result["interval"] = {alone.low, alone.high};
    result["level"] = 0.95;
    if (!comparison.corrected_p) {
      result["verdict"] = verdict_of(comparison);
      return result;
    }
    result["p"] = estimate->p_value();
    result["comparisons"] = comparison.comparisons;
    result["corrected_p"] = *comparison.corrected_p;
    result["corrected_interval"] = {together.low, together.high};
    result["corrected_level"] = comparison.corrected_level();
  }
  if (const auto& estimate = comparison.at_these_sizes) {
    const auto interval = estimate->interval(0.95);
    result["at_these_sizes"] = {{"interval", {interval.low, interval.high}}, {"p", estimate->p_value()}};
  }
  result["verdict"] = verdict_of(comparison);
  return result;
}

}  // namespace

bool PairComparison::one_seed() const {
  return !cells.empty() &&
         std::all_of(cells.begin(), cells.end(), [](const PairedCell& cell) { return cell.differences.size() < 2; });
}

Interval Estimate::interval(double level) const {
  const double half = student_t_quantile(0.5 + level / 2, freedom) * standard_error;
  return {value - half, value + half};
}

double Estimate::p_value() const {
  if (standard_error == 0) return value == 0 ? 1 : 0;
  return student_t_two_sided(value / standard_error, freedom);
}

std::vector<PairComparison> compare_all(const std::vector<PairedRun>& runs, const std::string& reference) {
  std::map<std::string, RunsByKey> by_variant;
  std::vector<std::string> variants;  // in the order of the sweep
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].key.empty()) continue;
    if (!by_variant.count(runs[i].variant)) variants.push_back(runs[i].variant);
    by_variant[runs[i].variant][runs[i].key] = i;
  }
  std::vector<PairComparison> result;
  for (size_t i = 0; i < variants.size(); ++i)
    for (size_t j = i + 1; j < variants.size(); ++j) {
      const bool swap = variants[i] == reference;
      const auto &a = variants[swap ? j : i], &b = variants[swap ? i : j];
      result.push_back(compare_two(a, b, runs, by_variant[a], by_variant[b]));
    }
  correct_for_number(result);
  return result;
}

std::string verdict_of(const PairComparison& comparison) {
  if (!comparison.over_sizes)
    return fmt::format("too few pairs ({}) to tell; run both variants with the same sizes and at least 2 seeds",
                       comparison.pairs);
  if (comparison.one_seed())
    return fmt::format(
        "no verdict: each size has one seed, so that nothing measures chance; run each of the {} sizes with at least 2 "
        "more seeds of both variants",
        comparison.cells.size());
  const double value = comparison.over_sizes->value;
  auto text = comparison.shown()
                  ? fmt::format("{} lower by {:.4g}", value < 0 ? comparison.a : comparison.b, std::abs(value))
                  : std::string("no difference shown");
  if (comparison.lost > 0)
    text += fmt::format(" (among the {} pairs that finished; {} lost)", comparison.pairs, comparison.lost);
  return text;
}

Json compare_variants(const std::vector<PairedRun>& runs) {
  Json result = Json::array();
  for (const auto& comparison : compare_all(runs)) result.push_back(as_json(comparison));
  return result;
}

}  // namespace attnscale
