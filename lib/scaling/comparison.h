#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// One run as a comparison sees it.
struct PairedRun {
  std::string variant;
  std::string key;  ///< everything of the config but the variant; runs with equal keys are paired
  bool done = true;
  double loss = 0;        ///< nats per token, where done
  double params = 0;      ///< trainable parameters
  std::string cell = {};  ///< the key without the seed: what the seeds of one size share; may be empty
};

/// Compares each pair of variants over the runs that differ in nothing else:
///
/// Where several sizes were run the sizes are the sample (each the mean over its seeds); with one size its seeds are.
///
///   [{"a", "b", "pairs", "cells", "mean_difference", "interval", "level", "params_ratio", "lost_pairs", "verdict"}]
///
/// `mean_difference` is loss of a minus loss of b in nats per token, `interval` its 95 % t-interval
/// over pairs (absent below two pairs). The verdict is "no difference shown", "A lower by x", or
/// "too few pairs". Pairs of which one run did not finish are counted as lost. The level is that of
/// one comparison: among k pairs of equal variants, expect k / 20 false differences.
Json compare_variants(const std::vector<PairedRun>& runs);

}  // namespace attnscale
