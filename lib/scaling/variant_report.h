#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "core/json.h"
#include "scaling/fit.h"

namespace attnscale {

/// Seeds that each size needs so that a mean difference of `effect` is shown with 80 % power, two-sided at `level`,
/// when differences scatter by `deviation` between seeds and `sizes` sizes are averaged; 0 if a million are not enough.
/// Normal theory with Student's quantiles.
int seeds_needed(double effect, double deviation, size_t sizes, double level);

/// How `variant_report` compares.
struct CompareOptions {
  std::string at;  ///< one of matched_quantities: frontiers at equal amounts of it; empty: runs of one config
  bool shuffle_labels = false;  ///< control: deal the losses of paired runs out among the variants at random
  uint64_t seed = 0;            ///< of the shuffle
  std::optional<std::set<std::string>> only = {};  ///< ids of the runs that take part; all if it has no value
};

/// Every pair of variants of a sweep, each at its own best learning rate where rates were swept, as JSON:
///
///   {"schema": "attnscale.compare/1", "sweep", "learning_rate": {"swept", "best": [{"variant", "rate", "at_edge"}]},
///    "ranking": [{"variant", "above_best", "groups", "evidence"}],
///    "comparisons": [{what compare_variants writes, "params_low"?, "params_high"?, "matched_parameters"?,
///                     "compute_multiplier"?: {"value", "interval"? | "at_least"?, "E", "alpha", "law"},
///                     "seeds_needed"?, "exponent_difference"?: {NAME: {"value", "interval", "corrected_interval"}},
///                     "sentence"}],
///    "at"?, "where"? (of compare --where), "shuffled"?: {"seed", "permutations", "share_shown"}, "notes"}
///
/// A best rate is chosen per variant over all sizes, by the mean of its losses; at the end of the swept range it is no
/// evidence, and the sentence says so instead of naming a winner. Laws are fitted to the runs at that rate. The compute
/// multiplier takes E and the exponent of compute from the law of the worse variant (compute_law); what is not known of
/// them is in its interval (multiplier_of).
///
/// `exponent_difference` is alpha and beta of L(N, D) of a less those of b, with intervals from those of the two fits
/// (MOVER: Zou and Donner 2008, Statistics in Medicine 27); the corrected one is wider by the ratio of the normal
/// quantiles of the two levels.
///
/// With `shuffle_labels`, comparisons are those of shuffled labels, and share_shown says in how many of 200 shuffles
/// any pair was shown to differ.
/// @throws as read_sweep_rows; DataError below two variants
Json variant_report(const std::filesystem::path& folder, const FitReportOptions& options = {},
                    const CompareOptions& compare = {});

/// The report for a terminal: the ranking, and a sentence for each pair where there are at most 10 or all are asked
/// for.
std::string variant_text(const Json& report, bool all_pairs = false);

}  // namespace attnscale
