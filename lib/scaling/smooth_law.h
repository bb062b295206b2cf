#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "scaling/minimise.h"

// P points. Laws that are no sum of powers, fitted with the objective and the walk of power_sum.h.

namespace attnscale {

/// One parameter as reports name it.
struct LawParameter {
  std::string name;            ///< `alpha`
  bool is_logarithm = false;   ///< the coordinate is its logarithm
  int scaled_by = -1;          ///< of a coefficient: its exponent's coordinate, which is no logarithm
  double centre = 0;           ///< mean ln x: the coordinate is ln A - exponent * centre
  std::vector<double> from{};  ///< coordinates that a search starts from; empty for E and coefficients
};

/// A law with its derivatives. Coordinate 0 is always ln E.
struct SmoothLaw {
  std::string name;     ///< `data_constrained`
  std::string formula;  ///< for people
  std::vector<LawParameter> parameters;
  /// Loss at one point and its derivatives by the coordinates, which arrive as zeros. @param log_x  ln of each column
  std::function<double(const std::vector<double>& log_x, const LawCoordinates& at, LawCoordinates& gradient)> loss;

  int size() const { return static_cast<int>(parameters.size()); }
  /// As the literature writes them: E, A, alpha, ...
  std::vector<double> literature(const LawCoordinates& at) const;
  /// The other way round. @param values  in the order of `parameters`
  LawCoordinates coordinates(const std::vector<double>& values) const;
};

/// Data-constrained law: repeated tokens and parameters beyond what the unique tokens can teach count less and less,
///
///   L = E + A / N'^alpha + B / D'^beta,  D' = U + U R_D (1 - exp(-(D / U - 1) / R_D)),
///   N' = V + V R_N (1 - exp(-(N / V - 1) / R_N)),  V = min(N, best N for U tokens)
///
/// with the best N that of the law without repetition, N^alpha = (alpha A / beta B) U^beta.
///
/// Source: Muennighoff et al. 2023, arXiv:2305.16264, section 3 and appendix A. Where we differ: all seven parameters
/// are fitted together, not R_N and R_D after the others.
/// @param x  columns N, D, U (unique tokens; above D it counts as D) [3][P]
SmoothLaw data_constrained_law(const std::vector<std::vector<double>>& x);

/// Broken power law with one break: L = E + b x^-c0 (1 + (x / d)^(1 / f))^(-c1 f). Slopes in ln x are -c0 below d and
/// -(c0 + c1) above it; f is how wide the bend is, in e-folds.
///
/// Source: Caballero et al. 2022, arXiv:2210.14891, equation (1) with n = 1.
/// @param x  one column [1][P]
SmoothLaw broken_power_law(const std::vector<std::vector<double>>& x);

/// Sum of weight * Huber_delta(ln L_predicted - ln L_observed) of such a law. The exact curvature is a central
/// difference of the gradient. Cost: O(P) predictions, 2 * size times that with exact curvature.
class SmoothObjective : public LogObjective {
 public:
  /// @param x       columns [K][P]  @param losses  nats per token [P]
  /// @param weights how often each point counts; empty: once
  SmoothObjective(const SmoothLaw& law, const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                  double delta, std::optional<double> fixed_floor = std::nullopt, std::vector<double> weights = {});

  Derivatives evaluate(const LawCoordinates& at, Curvature curvature) override;
  LawCoordinates literature_gradient(const Derivatives& centred) const override;
  bool floor_is_free() const override { return !fixed_; }

  int num_points() const { return static_cast<int>(log_losses_.size()); }
  int size() const { return law_->size(); }
  int num_free() const { return size() - (fixed_ ? 1 : 0); }
  double delta() const { return delta_; }
  const SmoothLaw& law() const { return *law_; }
  const std::vector<double>& log_x(int i) const { return rows_[i]; }
  double loss(int i) const { return std::exp(log_losses_[i]); }
  std::optional<double> log_fixed_floor() const { return fixed_; }

 private:
  void value_and_gradient(const LawCoordinates& at, Derivatives& out, bool with_curvature) const;

  const SmoothLaw* law_;
  std::vector<std::vector<double>> rows_;  // ln x [P][K]
  std::vector<double> log_losses_, weights_;
  double delta_;
  std::optional<double> fixed_;
};

/// Starts: every choice of `from`, with E at 0.9 and 0.3 of the lowest loss and each coefficient such that its part at
/// the middle of the points is an equal share of the rest.
std::vector<LawCoordinates> starts_of(const SmoothObjective& objective);

}  // namespace attnscale
