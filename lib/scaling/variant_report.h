#pragma once

#include <filesystem>
#include <string>

#include "core/json.h"
#include "scaling/fit.h"

namespace attnscale {

/// Seeds that each size needs so that a mean difference of `effect` is shown with 80 % power, two-sided at `level`,
/// when differences scatter by `deviation` between seeds and `sizes` sizes are averaged; 0 if a million are not enough.
/// Normal theory with Student's quantiles.
int seeds_needed(double effect, double deviation, size_t sizes, double level);

/// How much more compute the worse of two losses stands for: ((worse - E) / (better - E))^(1 / alpha).
/// @return at least 1; infinity where better is not above E
double compute_multiplier(double worse, double better, double E, double alpha);

/// Every pair of variants of a sweep, each at its own best learning rate where rates were swept, as JSON:
///
///   {"schema": "attnscale.compare/1", "sweep", "learning_rate": {"swept", "best": [{"variant", "rate", "at_edge"}]},
///    "comparisons": [{what compare_variants writes, "params_low", "params_high", "matched_parameters",
///                     "compute_multiplier"?: {"value", "interval", "E", "alpha", "law"}, "seeds_needed"?,
///                     "sentence"}],
///    "notes"}
///
/// A best rate is chosen per variant over all sizes, by the mean of its losses; at the end of the swept range it is no
/// evidence, and the sentence says so instead of naming a winner. The compute multiplier takes E and alpha from the law
/// L(C) of the worse variant as given; its interval is that of the difference alone.
/// @throws as read_sweep_rows; DataError below two variants
Json variant_report(const std::filesystem::path& folder, const FitReportOptions& options = {});

/// The report for a terminal.
std::string variant_text(const Json& report);

}  // namespace attnscale
