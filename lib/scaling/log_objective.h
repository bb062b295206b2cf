#pragma once

#include <algorithm>
#include <array>
#include <cmath>

namespace attnscale {

constexpr int max_terms = 4;
constexpr int max_parameters = 1 + 2 * max_terms;

/// Parameters of a law as a walk uses them; entry 0 is ln E.
using LawCoordinates = std::array<double, max_parameters>;

/// How the second derivative is taken. `reweighted` replaces Huber's curvature psi'(r) by psi(r) / r
/// and is positive semidefinite everywhere; `exact` converges quadratically near an optimum.
enum class Curvature { reweighted, exact };

/// Value and derivatives in the order of the coordinates.
struct Derivatives {
  double value = 0;
  int size = 0;
  std::array<double, max_parameters> gradient{};
  std::array<double, max_parameters * max_parameters> hessian{};  ///< row-major, `size` columns

  /// Largest magnitude.
  double gradient_norm() const {
    double largest = 0;
    for (int i = 0; i < size; ++i) largest = std::max(largest, std::abs(gradient[i]));
    return largest;
  }
};

/// A sum of Huber losses of ln L that a walk goes down, whatever the law.
class LogObjective {
 public:
  virtual ~LogObjective() = default;

  /// Parameters so extreme that a prediction overflows have the value infinity. A parameter that is held has gradient 0
  /// and a unit row in the Hessian.
  virtual Derivatives evaluate(const LawCoordinates& at, Curvature curvature) = 0;

  /// The gradient with respect to the parameters as the literature writes them (ln A instead of the logarithm of the
  /// term at the centre of the data).
  virtual LawCoordinates literature_gradient(const Derivatives& centred) const = 0;

  virtual bool floor_is_free() const = 0;

 protected:
  LogObjective() = default;
  LogObjective(const LogObjective&) = default;
  LogObjective& operator=(const LogObjective&) = default;
};

}  // namespace attnscale
