#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/statistics.h"

namespace attnscale {

/// One run as a comparison sees it.
struct PairedRun {
  std::string variant;
  std::string key;  ///< everything of the config but the variant; runs with equal keys are paired; empty: takes no part
  bool done = true;
  double loss = 0;        ///< nats per token, where done
  double params = 0;      ///< trainable parameters
  std::string cell = {};  ///< the key without the seed: what the seeds of one size share; may be empty
};

/// A mean with what it is worth.
struct Estimate {
  double value = 0;
  double standard_error = 0;
  double freedom = 0;  ///< degrees of Student's t, > 0

  Interval interval(double level) const;
  double p_value() const;  ///< two-sided, of the true value being 0
};

/// The pairs of one size: runs that differ in the attention and otherwise only in their seed.
struct PairedCell {
  size_t run_a = 0, run_b = 0;      ///< the first pair, as places in the list of runs
  std::vector<double> differences;  ///< loss of a minus loss of b, one per seed, nats per token
  double loss_b = 0;                ///< mean over the pairs
};

/// Two variants over the runs that differ in nothing else.
struct PairComparison {
  std::string a, b;
  std::vector<PairedCell> cells;
  size_t pairs = 0;
  size_t lost = 0;                   ///< pairs of which one run did not finish
  std::optional<double> difference;  ///< mean over cells of loss of a minus loss of b
  /// Parameters of a over those of b: least, most, and their geometric mean over pairs; 0 when unknown.
  double params_low = 0, params_high = 0, params_ratio = 0;

  /// For sizes like these: the sizes are the sample, each the mean over its seeds; with one size its seeds are.
  /// Nothing below two of them.
  std::optional<Estimate> over_sizes;
  /// For these sizes and no others: from the scatter of seeds within them. Nothing unless each has two seeds.
  std::optional<Estimate> at_these_sizes;

  /// There are pairs, but no size has a second seed: nothing measures chance, so that there is no verdict.
  bool one_seed() const;

  // Filled in by compare_all, which knows how many comparisons there are.
  size_t comparisons = 1;             ///< that have an `over_sizes` and more than one seed
  std::optional<double> corrected_p;  ///< of over_sizes, by Holm's method
  double corrected_level() const { return 1 - 0.05 / static_cast<double>(comparisons); }  ///< Bonferroni's
  /// Whether a difference is shown when all comparisons are to be right together in 95 % of sweeps.
  bool shown() const { return corrected_p && *corrected_p < 0.05; }
};

/// Every pair of variants, in the order in which the variants appear, except that `reference` (when it is there)
/// is b in all its pairs.
///
/// Several comparisons are corrected for: Holm 1979 for the p-values (and so the verdicts), Bonferroni for the
/// intervals, which then hold together.
std::vector<PairComparison> compare_all(const std::vector<PairedRun>& runs, const std::string& reference = "");

/// `no difference shown`, `A lower by x`, `too few pairs` or, with one seed per size, `no verdict` with what to run;
/// and among how many pairs when some were lost.
std::string verdict_of(const PairComparison& comparison);

/// compare_all as scaling.json holds it:
///
///   [{"a", "b", "pairs", "cells", "lost_pairs", "sign_changes_with_size"?, "params_ratio"?, "mean_difference"?,
///     "interval"?, "level"?, "p"?, "comparisons"?, "corrected_p"?, "corrected_interval"?, "corrected_level"?,
///     "at_these_sizes"?: {"interval", "p"}, "verdict"}]
///
/// `mean_difference` is loss of a minus loss of b in nats per token, `interval` its 95 % t-interval for one comparison
/// by itself; the verdict follows corrected_p. Pairs of which one run did not finish are counted as lost.
Json compare_variants(const std::vector<PairedRun>& runs);

}  // namespace attnscale
