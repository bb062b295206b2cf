#pragma once

#include <set>
#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/comparison.h"

namespace attnscale {

/// One variant in its place.
struct RankedVariant {
  std::string name;
  double above_best = 0;            ///< nats per token
  std::vector<std::string> groups;  ///< letters; none for a variant that is no evidence
};

/// Variants from the best to the worst, by the mean of their differences from all others; two that share a letter are
/// not shown to differ, two that share none are.
///
/// Source: Piepho 2004, Journal of Computational and Graphical Statistics 13(2), 456 (insert and absorb).
/// @param without_evidence  listed behind the others, without a letter
/// @return empty where some two of the others have no difference: no common size
std::vector<RankedVariant> rank_variants(const std::vector<PairComparison>& comparisons,
                                         const std::set<std::string>& without_evidence);

/// [{"variant", "above_best", "groups": [LETTER], "evidence"}]
Json ranking_json(const std::vector<RankedVariant>& ranking);

/// The ranking as a table, one line a variant.
std::string ranking_text(const Json& ranking);

}  // namespace attnscale
