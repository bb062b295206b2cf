#include "scaling/comparison.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "scaling/statistics.h"

namespace attnscale {
namespace {

Json compare(const std::string& a, const std::string& b,
             const std::map<std::string, std::map<std::string, PairedRun>>& by_key) {
  std::vector<double> log_ratios;
  std::map<std::string, std::vector<double>> by_cell;  // cell -> a difference per seed
  int lost = 0;
  for (const auto& [key, runs] : by_key) {
    const auto of_a = runs.find(a), of_b = runs.find(b);
    if (of_a == runs.end() || of_b == runs.end()) continue;
    if (!of_a->second.done || !of_b->second.done) {
      ++lost;
      continue;
    }
    by_cell[of_a->second.cell].push_back(of_a->second.loss - of_b->second.loss);
    if (of_a->second.params > 0 && of_b->second.params > 0)
      log_ratios.push_back(std::log(of_a->second.params / of_b->second.params));
  }
  // Seeds of one size share what that size does to the two variants, so that sizes are the sample; with a
  // single size its seeds are.
  std::vector<double> differences;
  size_t pairs = 0;
  bool a_wins = false, b_wins = false;
  for (const auto& [cell, values] : by_cell) {
    pairs += values.size();
    differences.push_back(mean(values));
    a_wins = a_wins || differences.back() < 0;
    b_wins = b_wins || differences.back() > 0;
  }
  const bool several_sizes = by_cell.size() > 1;
  if (by_cell.size() == 1) differences = by_cell.begin()->second;
  Json result = {{"a", a}, {"b", b}, {"pairs", pairs}, {"cells", by_cell.size()}, {"lost_pairs", lost}};
  if (several_sizes) result["sign_changes_with_size"] = a_wins && b_wins;
  if (!log_ratios.empty()) result["params_ratio"] = std::exp(mean(log_ratios));
  if (!differences.empty()) result["mean_difference"] = mean(differences);
  if (differences.size() < 2) {
    result["verdict"] =
        fmt::format("too few pairs ({}) to tell; run both variants with the same sizes and at least 2 seeds", pairs);
    return result;
  }
  const double centre = mean(differences);
  const auto count = static_cast<double>(differences.size());
  const double half = student_t_quantile(0.975, count - 1) * standard_deviation(differences) / std::sqrt(count);
  const Interval interval{centre - half, centre + half};
  result["interval"] = {interval.low, interval.high};
  result["level"] = 0.95;
  result["verdict"] = interval.contains(0) ? "no difference shown"
                                           : fmt::format("{} lower by {:.4g}", centre < 0 ? a : b, std::abs(centre));
  if (lost > 0)
    result["verdict"] = fmt::format("{} (among the {} pairs that finished; {} lost)",
                                    result["verdict"].get<std::string>(), pairs, lost);
  return result;
}

}  // namespace

Json compare_variants(const std::vector<PairedRun>& runs) {
  std::map<std::string, std::map<std::string, PairedRun>> by_key;
  std::vector<std::string> variants;  // in the order of the sweep
  for (const auto& run : runs) {
    by_key[run.key][run.variant] = run;
    if (std::find(variants.begin(), variants.end(), run.variant) == variants.end()) variants.push_back(run.variant);
  }
  Json result = Json::array();
  for (size_t i = 0; i < variants.size(); ++i)
    for (size_t j = i + 1; j < variants.size(); ++j) result.push_back(compare(variants[i], variants[j], by_key));
  return result;
}

}  // namespace attnscale
