#include "report/compare.h"

namespace attnscale {

ReferenceComparison compare_with_reference(const Sweep& sweep) {
  ReferenceComparison comparison;
  if (sweep.variants.empty()) return comparison;
  comparison.reference = sweep.variants.front();
  for (auto& summary : compare_all(sweep.pairs, comparison.reference)) {
    if (summary.b != comparison.reference || summary.cells.empty()) continue;
    for (const PairedCell& cell : summary.cells) {
      const Run& run = sweep.runs[cell.run_a];
      if (!run.params) continue;
      comparison.cells.push_back({.variant = run.variant,
                                  .depth = run.depth,
                                  .model_dim = run.model_dim,
                                  .tokens = run.tokens,
                                  .params = *run.params,
                                  .difference = spread_of(cell.differences)});
    }
    comparison.summaries.push_back(std::move(summary));
  }
  return comparison;
}

}  // namespace attnscale
