#include "report/compare.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

namespace attnscale {
namespace {

struct Pairs {
  const Run* run = nullptr;
  const Run* reference = nullptr;
  std::vector<double> differences;
};

PairedSummary summary_of(const std::string& variant, const std::vector<const PairedCell*>& cells) {
  PairedSummary summary{.variant = variant, .sizes = cells.size(), .half_width = {}};
  double variance = 0;
  size_t degrees = 0;
  bool replicated = true;
  summary.params_low = summary.params_high = cells.front()->params / cells.front()->reference_params;
  for (const PairedCell* cell : cells) {
    const Spread& spread = cell->difference;
    summary.pairs += spread.count;
    summary.difference += spread.mean / static_cast<double>(cells.size());
    variance += spread.deviation * spread.deviation / static_cast<double>(spread.count);
    degrees += spread.count - 1;
    replicated = replicated && spread.count > 1;
    const double ratio = cell->params / cell->reference_params;
    summary.params_low = std::min(summary.params_low, ratio);
    summary.params_high = std::max(summary.params_high, ratio);
  }
  if (replicated) {
    summary.half_width = student_quantile(degrees) * std::sqrt(variance) / static_cast<double>(cells.size());
  }
  return summary;
}

}  // namespace

Comparison compare_variants(const Sweep& sweep) {
  Comparison comparison;
  if (sweep.variants.empty()) return comparison;
  comparison.reference = sweep.variants.front();
  std::map<std::string, const Run*> references;
  for (const Run& run : sweep.runs)
    if (run.done() && run.params && run.variant == comparison.reference) references[run.pair] = &run;

  using Size = std::tuple<std::string, double, double, double>;
  std::map<Size, Pairs> groups;
  for (const Run& run : sweep.runs) {
    if (!run.done() || !run.params || run.variant == comparison.reference) continue;
    const auto reference = references.find(run.pair);
    if (reference == references.end()) continue;
    auto& group = groups[{run.variant, run.depth.value_or(0), run.model_dim.value_or(0), run.tokens.value_or(0)}];
    group.run = &run;
    group.reference = reference->second;
    group.differences.push_back(*run.loss - *reference->second->loss);
  }
  for (const auto& [size, group] : groups) {
    comparison.cells.push_back({.variant = group.run->variant,
                                .depth = group.run->depth,
                                .model_dim = group.run->model_dim,
                                .tokens = group.run->tokens,
                                .params = *group.run->params,
                                .reference_params = *group.reference->params,
                                .difference = spread_of(group.differences)});
  }
  for (const std::string& variant : sweep.variants) {
    std::vector<const PairedCell*> cells;
    for (const PairedCell& cell : comparison.cells)
      if (cell.variant == variant) cells.push_back(&cell);
    if (!cells.empty()) comparison.summaries.push_back(summary_of(variant, cells));
  }
  return comparison;
}

}  // namespace attnscale
