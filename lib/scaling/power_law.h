#pragma once

#include <vector>

#include "scaling/parametric.h"
#include "scaling/table.h"

namespace attnscale {

/// L(x) = E + A x^-alpha, fitted.
struct PowerLawFit : LawFit {
  double A = 0, alpha = 0;
};

/// 150 starts: the one-variable part of `parametric_starts`. With E fixed, the 30 that differ.
std::vector<PowerSum> power_law_starts(bool floor_is_free);

/// Fits in log space with the objective of `fit_parametric`, one term only.
/// @param x, L  positive [P]
/// @throws NumericsError if no start has a finite objective
PowerLawFit fit_power_law(const std::vector<double>& x, const std::vector<double>& L, const FitOptions& options = {});

/// The points that L(N) is fitted to: for each variant and each N those with the most tokens. Where
/// these token counts differ between sizes, the fitted exponent mixes both effects; fit_report says so.
std::vector<Point> largest_tokens_of_each_size(const std::vector<Point>& points);

/// The points that L(D) is fitted to: for each variant and each D those with the most parameters.
std::vector<Point> largest_size_of_each_tokens(const std::vector<Point>& points);

}  // namespace attnscale
