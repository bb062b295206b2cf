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
};

/// All laws that the points can bear, as JSON:
///
///   {"n_points", "n_runs", "n_cells", "forms": {FORM: {...}}, "flags": ["..."]}
///
/// FORM is "L(N,D)", "L(N)" (for each size the points with the most tokens) or "L(D)" (for each
/// token count the points with the most parameters), and holds E, A, alpha (B, beta), objective,
/// gradient_norm, n_points, n_cells, starts, points, rms_log_residual, intervals (95 %, from the
/// bootstrap), resampling, lack_of_fit (where cells have several seeds), truth (where it is known)
/// and flags. A form that the points cannot bear is absent, and a flag says why and what to run
/// next. Points whose status is not "done" are counted and named in a flag. No value is NaN or null.
/// @throws NumericsError if a fit has no finite start
Json fit_report(const std::vector<Point>& points, const FitReportOptions& options = {});

/// The report as a table for the terminal, ending with a line
/// `irreducible loss: fitted x [lo, hi] / true y` where an E was fitted.
std::string fit_text(const Json& fit);

}  // namespace attnscale
