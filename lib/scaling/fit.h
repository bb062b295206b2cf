#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/parametric.h"
#include "scaling/table.h"

namespace attnscale {

/// How `fit_report` works.
struct FitReportOptions {
  double delta = 1e-3;                                   ///< Huber's, in ln L
  std::optional<double> fixed_E = std::nullopt;          ///< a known irreducible loss, nats per token
  int replicates = 1000;                                 ///< of the bootstrap; 0 leaves the intervals out
  uint64_t seed = 0;                                     ///< of the bootstrap
  std::optional<double> true_bayes_loss = std::nullopt;  ///< where the source knows its truth, nats per token
  /// Standard error of the validation tokens' own Bayes loss as an estimate of the true one, where it is recorded.
  std::optional<double> validation_error = std::nullopt;
  /// Compute beyond which points are predicted by laws fitted to the others (compare_laws); nothing: the largest fifth.
  std::optional<double> held_out_above = std::nullopt;
  bool keep_flagged = false;  ///< fit points with flags too
};

/// All laws that the points can bear, as JSON:
///
///   {"n_points", "n_runs", "n_cells", "forms": {FORM: {...}}, "flags", "doubts"}
///
/// FORM is "L(N,D)", "L(N)" (for each size the points with the most tokens), "L(D)" (for each
/// token count the points with the most parameters) or "L(C)" (those that no cheaper one beats), and holds E, A, alpha
/// (B, beta), objective, gradient_norm, n_points, n_cells, starts, condition_number, second_opinion (variable
/// projection), points, rms_log_residual, compute_optimal (of L(N,D): where budgets go best), intervals (95 %, by
/// interval_method: "profile t" where groups are cells, else "bootstrap"), bootstrap_intervals, resampling, lack_of_fit
/// (where cells have several seeds), truth (where it is known) and flags. A form that the points cannot bear is absent,
/// and a flag says why and what to run next. Points whose status is not "done" are counted and named in a flag; points
/// with flags of their own are counted and left out. No value is NaN or null.
///
/// Beside the forms stand "isoflop" (isoflop_report, where runs share budgets), "envelope" (envelope_report, where
/// there are learning curves), "collapse" (collapse_report, likewise) and "laws" (compare_laws).
///
/// Flags are [{"id", "severity", "text"}]; "doubts" are all of them once, the same one of several forms in one line
/// (Doubts), the gravest first.
///
/// Where the loss does not fall with a variable the form says so under "no_law", and what cannot be known then has no
/// interval.
///
/// Where every point has a paired loss, "paired": {"forms"} holds the same fits of that loss. The sampling noise of the
/// validation tokens cancels in it, so that its E is sharper; the verdict on E ("truth": {"covered"}) is that of the
/// raw loss all the same, because the paired one knows the truth beforehand, and stands beside it as "truth":
/// {"paired"}.
/// @throws NumericsError if a fit has no finite start; ConfigError for a fixed E that a run has beaten
Json fit_report(const std::vector<Point>& points, const FitReportOptions& options = {});

/// For each variant the points that no cheaper one beats, by the means of cells: what a budget can reach. `C` is filled
/// in where a point has none: 6 N D, or the one of N and D that it has.
std::vector<Point> compute_frontier(std::vector<Point> points);

/// The report as a table for the terminal, ending with a line
/// `irreducible loss: fitted x [lo, hi] / true y` where an E was fitted.
std::string fit_text(const Json& fit);

}  // namespace attnscale
