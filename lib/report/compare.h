#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "report/sweep_data.h"

namespace attnscale {

/// Loss of a variant less the reference's at one size, over pairs of runs that agree in seed, data and
/// everything else but the attention. Negative: the variant is better.
struct CellDifference {
  std::string variant;
  std::optional<double> depth, model_dim, tokens;
  double params = 0;
  Spread difference;  ///< over the pairs, nats per token
};

/// The variants against one of them, for a reader: the numbers are those of compare_all, which scaling.json holds too.
struct ReferenceComparison {
  std::string reference;                  ///< softmax where there is one, else the first variant
  std::vector<CellDifference> cells;      ///< of runs that know their parameters
  std::vector<PairComparison> summaries;  ///< of each variant (a) with the reference (b), where they have pairs
};

ReferenceComparison compare_with_reference(const Sweep& sweep);

}  // namespace attnscale
