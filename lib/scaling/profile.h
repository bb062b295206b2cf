#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "scaling/minimise.h"
#include "scaling/statistics.h"

// G groups of points that are independent of each other, each at one x.

namespace attnscale {

/// A quantity of the place that a walk is at, smooth near the optimum.
using CoordinateQuantity = std::function<double(const LawCoordinates&)>;

/// How far `quantity` may move before a sum of squares rises by what F(1, freedom) rejects at 95 %; see LawProfile.
/// @param best  the optimum of `objective`, whose value is positive
/// @param lowest, highest  an end that has not been reached there is open: it becomes this value
/// @param lost_is_open  so does one end that was not found because the walk towards it did not arrive: wider, never
///                      narrower, than what would have been found
/// @return nothing where an end is open and has no limit, or where the data determine no interval
std::optional<Interval> profile_interval(LogObjective& objective, const Minimum& best, double freedom,
                                         const CoordinateQuantity& quantity, std::optional<double> lowest,
                                         std::optional<double> highest, bool lost_is_open = false);

/// The least-squares law of the groups' mean ln L, weighted by their points, and how far any quantity of it may move
/// before the data object.
///
/// Source: Bates and Watts 1988, Nonlinear Regression Analysis, section 6.1 (profile t), for any smooth quantity g of
/// the law instead of a parameter alone: the best law with g held at a value is found by Newton's method on the
/// Lagrangian, and the interval ends where F(1, G - parameters) rejects it. It needs no resampling, is as skew as the
/// law, and does not depend on how the law is parametrised. It takes what a group misses the law by for normal, where
/// the bootstrap takes the residuals as they are, and least squares instead of Huber's loss. Groups count by their
/// points where seeds are the noise. Where groups have unequal numbers and miss the law by more than their seeds
/// scatter, they count 1 / (tau^2 + sigma^2 / m) instead: with points as weights, intervals of 2,000 simulated sweeps
/// of cells with 1, 2 or 4 seeds covered 91 to 93 % (unequal_seeds of `fit --self-test`).
class LawProfile {
 public:
  using Quantity = std::function<double(const PowerSum&)>;

  /// @param x, losses  the points: columns [K][P], nats per token [P]
  /// @param group      number of each point's independent group, 0 .. G - 1 [P]
  /// @param start      a law near the optimum
  LawProfile(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
             const std::vector<int>& group, std::optional<double> fixed_E, const PowerSum& start);

  double freedom() const { return freedom_; }  ///< G - parameters; below 1 there is no interval of anything
  PowerSum law() const { return objective_.from_coordinates(best_.at); }  ///< least squares of the groups' means
  double lowest_loss() const { return lowest_loss_; }                     ///< of all points

  /// The values of `quantity` that F does not reject at 95 %.
  /// @param quantity  smooth near the optimum; give positive ones by their logarithm
  /// @param lowest, highest, lost_is_open  as those of profile_interval
  /// @return nothing where an end is open and has no limit, or where the data determine no interval
  /// Cost: about 20 walks of a few evaluations.
  std::optional<Interval> interval(const Quantity& quantity, std::optional<double> lowest = std::nullopt,
                                   std::optional<double> highest = std::nullopt, bool lost_is_open = false) const;

 private:
  PowerSumObjective objective_;
  Minimum best_;
  double freedom_ = 0, lowest_loss_ = 0;
};

}  // namespace attnscale
