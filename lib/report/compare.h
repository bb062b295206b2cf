#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "report/sweep_data.h"

namespace attnscale {

/// Loss of a variant less the reference's at one size, over pairs of runs that agree in seed, data and
/// everything else but the attention. Negative: the variant is better.
struct PairedCell {
  std::string variant;
  std::optional<double> depth, model_dim, tokens;
  double params = 0, reference_params = 0;
  Spread difference;  ///< over the pairs, nats per token
};

/// A variant against the reference, averaged with equal weight over the sizes that both have.
struct PairedSummary {
  std::string variant;
  size_t sizes = 0, pairs = 0;
  double difference = 0;
  std::optional<double> half_width;        ///< 95 %, from the spread between seeds; absent without replicates
  double params_low = 1, params_high = 1;  ///< parameters of the variant over the reference's, least and most

  /// True when the interval leaves out zero.
  bool clear() const { return half_width && std::abs(difference) > *half_width; }
};

struct Comparison {
  std::string reference;  ///< softmax where there is one, else the first variant
  std::vector<PairedCell> cells;
  std::vector<PairedSummary> summaries;  ///< one per variant that has pairs
};

/// Pairs the done runs of each variant with the reference's.
Comparison compare_variants(const Sweep& sweep);

}  // namespace attnscale
