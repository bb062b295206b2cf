#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// What is asked of a sweep: where the loss is least along one option, and how that moves.
struct OptimumQuestion {
  std::string of = "train.learning_rate";  ///< config path of a swept number above 0
  std::string along = {};            ///< config path of a number, such as a width; empty: the optimum does not move
  std::vector<std::string> by = {};  ///< config paths that tell settings apart, such as an optimiser
  double level = 0.95;
};

/// Optima of one option, as JSON:
///
///   {"schema": "attnscale.optimum/1", "of", "along"?, "by", "level",
///    "settings": [{"by": {path: value}, "along"?, "values", "losses", "ranges", "not_finished", "seeds", "edge"?,
///                  "optimum": {"value", "low"?, "high"?}, "loss": {the same}, "sensitivity": {the same}}],
///    "shifts": [{"by", "from", "to", "octaves": {the same}, "bounds"?: "at least" | "at most" | "unknown"}],
///    "differences": [{"a", "b", "along"?, "difference": {the same}, "level", "verdict"}],
///    "notes"}
///
/// A setting is what `by` and `along` tell apart. Its loss at each value of the option is the mean over seeds; a
/// parabola in the value's logarithm through the least of them and its two neighbours has the optimum and the loss
/// there at its vertex (as Hoffmann et al. 2022, arXiv:2203.15556, section 3.2, do along sizes). Where the least stands
/// at an end of the swept range, `edge` says which: the optimum is that far or further. A neighbour that did not
/// finish or whose loss is not finite brackets the least as well; the optimum is then the least itself, without an
/// interval, since not the seeds but the spacing of the values says how sure it is.
///
/// `sensitivity` is the mean over the swept values of min(loss, ln V) - loss at the optimum, a run that did not finish
/// counting as ln V (Wortsman et al. 2023, arXiv:2309.14322, equation 1, whose cap is the loss at initialisation).
///
/// Intervals are Student's around the estimate with the delete-one-seed jackknife's variance; shifts and differences
/// leave out a seed of both sides together, as the seeds are the same. Nothing of the kind with one seed. Intervals and
/// verdicts of differences hold together (Bonferroni): each has the `level` that this asks of it.
/// @throws Error (usage) for a path that no run has; ConfigError for an option that is no positive number or has fewer
/// than three
///         values, and for runs that differ in something else, with what; as read_sweep_rows
Json optimum_report(const std::filesystem::path& folder, const OptimumQuestion& question);

/// A setting in words: `optimizer = adamw, clip_norm = 1`; empty for nothing. @param by  as in the report
std::string name_of_setting(const Json& by);

/// The report for a terminal: a table, then a sentence for each shift and difference.
std::string optimum_text(const Json& report);

}  // namespace attnscale
