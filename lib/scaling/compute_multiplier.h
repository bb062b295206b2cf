#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scaling/bootstrap.h"
#include "scaling/comparison.h"
#include "scaling/power_sum.h"
#include "scaling/table.h"

namespace attnscale {

/// How much more compute the worse of two losses stands for: ((worse - E) / (better - E))^(1 / alpha).
/// @param alpha  of loss against compute
/// @return at least 1; infinity where better is not above E
double compute_multiplier(double worse, double better, double E, double alpha);

/// A variant's law with the points that it was fitted to: what a difference in loss is converted by.
struct ComputeLaw {
  std::string name;  ///< `L(N,D) of linear`
  PowerSum law;      ///< one term, in compute or in tokens at one size, or two: in N and D
  std::vector<std::vector<double>> x = {};
  std::vector<double> losses = {};
  std::vector<int> group = {};  ///< independent groups, each at one x
  Bootstrap resampled = {};     ///< of these points

  /// Exponent of the loss above E against compute: of the one term, or alpha beta / (alpha + beta) along the best
  /// sizes.
  static double exponent(const PowerSum& law);
};

/// L(N, D) of points, or else L(C) of those that no cheaper one beats; nothing where `forms` has neither with a floor
/// and exponents above 0.
/// @param forms  of fit_report for the same points
std::optional<ComputeLaw> compute_law(const Json& forms, const std::vector<Point>& points, const std::string& variant);

/// What the better of two variants is worth, in compute of the worse one.
struct ComputeMultiplier {
  double value = 0, E = 0, alpha = 0;
  std::optional<double> low, high;  ///< both or `low` alone: above it the points bound nothing
};

/// The multiplier between the mean losses of a pair, with an interval at `level`.
///
/// Two things are not known for sure, and independent but for the runs that they share: the difference, with Student's
/// interval over sizes, and the worse variant's law, with profile t of the multiplier at these losses, in which E and
/// the exponents move together (the bootstrap where the floor is at its bound; 95 %, widened to `level` by the ratio of
/// normal quantiles). Distances in ln multiplier add up as squares (MOVER: Zou and Donner 2008, Statistics in Medicine
/// 27).
/// @return nothing where the better loss is not above E, or there is no difference
std::optional<ComputeMultiplier> multiplier_of(const PairComparison& pair, const ComputeLaw& worse, double level);

}  // namespace attnscale
