#pragma once

#include <array>
#include <optional>
#include <vector>

#include "scaling/log_objective.h"

// P points, K terms. Every law of this module is a sum of powers above a floor,
//
//   L = E + sum over k of A_k x_k^-alpha_k          (K = 1: L(N) or L(D); K = 2: L(N, D))
//
// fitted in log space. This file holds the objective; minimise.h walks down it.

namespace attnscale {

/// One power above the floor: ln coefficient and exponent.
struct PowerTerm {
  double log_coefficient = 0;  ///< ln A
  double exponent = 0;         ///< alpha; positive when the loss falls with x
};

/// A law with numbers in it.
struct PowerSum {
  double log_floor = 0;  ///< ln E; -infinity for E = 0
  std::vector<PowerTerm> terms;

  /// Predicted loss, nats, at one value of x per term.
  double at(const std::vector<double>& x) const;
};

/// Sum over points of weight * Huber_delta(ln L_predicted - ln L_observed).
///
/// Source: Hoffmann et al. 2022, arXiv:2203.15556, section 3.3 (approach 3): the logarithm of the
/// prediction is a log-sum-exp of a - alpha ln N, b - beta ln D and e. The *sum*, not the mean, is
/// minimised. Parameters so extreme that it overflows have the value infinity.
///
/// Points with the same x share a prediction: they form a cell, whose sums of Huber losses are read off prefix sums
/// over its sorted losses. The sum is the same, and its cost is that of the cells, not of the points.
///
/// Internally each ln x is taken relative to its mean (`centre`), which removes most of the
/// correlation between ln A and alpha. Not for use by two threads at once: copy it.
class PowerSumObjective : public LogObjective {
 public:
  /// @param x       K columns of P positive values
  /// @param losses  P positive values, nats
  /// @param delta   where Huber's loss turns from square to absolute, in ln L
  /// @param fixed_floor  a known E (>= 0), kept out of the fit
  PowerSumObjective(const std::vector<std::vector<double>>& x, const std::vector<double>& losses, double delta,
                    std::optional<double> fixed_floor = std::nullopt);

  int num_points() const { return static_cast<int>(log_losses_.size()); }
  int num_cells() const { return static_cast<int>(cells_.size()); }
  int num_terms() const { return static_cast<int>(centres_.size()); }
  int num_free() const { return 2 * num_terms() + (floor_is_free_ ? 1 : 0); }
  bool floor_is_free() const override { return floor_is_free_; }
  double log_fixed_floor() const { return log_fixed_floor_; }  ///< where the floor is not free
  double delta() const { return delta_; }
  double centre(int term) const { return centres_[term]; }  ///< mean ln x

  /// How often each point counts; a bootstrap's resampling. Default: once each.
  /// Cost O(P), as that of new losses O(P log P).
  void set_weights(std::vector<double> weights);

  /// Forgets the cells whose points have no weight: for a copy that is only walked on.
  void drop_weightless();

  const std::vector<double>& log_losses() const { return log_losses_; }
  void set_log_losses(std::vector<double> values);

  /// Parameters as the walk uses them: ln E, then per term the logarithm of the term at the centre
  /// of its ln x, and its exponent.
  LawCoordinates to_coordinates(const PowerSum& law) const;
  PowerSum from_coordinates(const LawCoordinates& at) const;

  /// Objective with its derivatives in walking coordinates. A fixed floor has gradient 0 and a unit
  /// row in the Hessian. Where Huber's loss is absolute, the reweighted curvature takes the points of a cell together:
  /// it only steers the walk. Cost: per cell O(K^2 + log of its points).
  Derivatives evaluate(const LawCoordinates& at, Curvature curvature) override;

  /// The same derivatives with respect to (ln E, ln A, alpha, ...), as the literature writes them.
  LawCoordinates literature_gradient(const Derivatives& centred) const override;

  /// ln of the prediction at each point.
  std::vector<double> log_predictions(const LawCoordinates& at);

  /// d ln(prediction) / d parameter at each point, walking coordinates: [P][1 + 2K]. The column of a
  /// fixed floor is zero.
  std::vector<std::array<double, max_parameters>> log_jacobian(const LawCoordinates& at);

 private:
  /// The points of one x: a stretch of `points_`, sorted by loss.
  struct Cell {
    std::array<int, max_terms> x{};  // places in distinct_, one per term
    size_t begin = 0, size = 0;
    size_t sums = 0;    // where its prefix sums begin: over the first 0, 1, .., size of its points
    double centre = 0;  // a ln loss in the middle of the cell, which the sums are taken from
    double weight = 0;  // of all its points
  };
  /// What the points of a cell contribute together at one prediction.
  struct CellSums {
    double value = 0, slope = 0;  // of Huber's loss and its derivative
    double inside = 0;            // weight of those where it is square
    double reweighted = 0;        // psi(r) / r, summed
  };

  void exponentiate(const LawCoordinates& at);
  void find_cells(const std::vector<std::vector<int>>& index);
  void sort_cells();
  void sum_cells();
  CellSums sums_of(const Cell& cell, double log_prediction) const;

  std::vector<double> log_losses_, weights_;
  double delta_;
  bool floor_is_free_;
  double log_fixed_floor_ = 0;
  std::vector<double> centres_;                // [K]
  std::vector<std::vector<double>> distinct_;  // [K][..] distinct ln x - centre
  std::vector<std::vector<double>> powers_;    // [K][..] the term at each distinct x; scratch
  std::vector<Cell> cells_;
  std::vector<int> points_;                                      // cell by cell
  std::vector<double> relative_;                                 // ln loss - the cell's centre, as points_
  std::vector<double> weight_sums_, linear_sums_, square_sums_;  // of weight, weight * loss, weight * loss^2
};

}  // namespace attnscale
