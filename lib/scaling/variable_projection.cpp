#include "scaling/variable_projection.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

namespace attnscale {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr int reweightings = 12;
constexpr int refined_places = 3;

/// min |rows theta - target|^2 over theta >= 0, by trying which of its few entries are 0.
VectorXd nonnegative_least_squares(const MatrixXd& normal, const VectorXd& right) {
  const auto size = static_cast<int>(right.size());
  VectorXd best = VectorXd::Zero(size);
  double lowest = 0;  // of theta' normal theta - 2 right' theta; 0 at theta = 0
  for (int kept = 1; kept < 1 << size; ++kept) {
    std::vector<int> free;
    for (int i = 0; i < size; ++i)
      if (kept >> i & 1) free.push_back(i);
    const auto solution = VectorXd(normal(free, free).ldlt().solve(right(free)));
    if (!solution.allFinite() || solution.minCoeff() < 0) continue;
    const double value = solution.dot(normal(free, free) * solution) - 2 * right(free).dot(solution);
    if (value >= lowest) continue;
    lowest = value;
    best.setZero();
    best(free) = solution;
  }
  return best;
}

/// The linear problem at given exponents.
class Projection {
 public:
  Projection(const PowerSumObjective& objective, const std::vector<std::vector<double>>& x,
             const std::vector<double>& losses)
      : fixed_floor_(objective.floor_is_free() ? 0 : objective.log_fixed_floor()),
        floor_is_free_(objective.floor_is_free()),
        delta_(objective.delta()) {
    const auto points = static_cast<Eigen::Index>(losses.size());
    log_x_.resize(points, static_cast<Eigen::Index>(x.size()));
    losses_.resize(points);
    for (Eigen::Index i = 0; i < points; ++i) {
      losses_(i) = losses[i];
      for (size_t k = 0; k < x.size(); ++k) log_x_(i, static_cast<Eigen::Index>(k)) = std::log(x[k][i]);
    }
    centres_ = log_x_.colwise().mean();
  }

  /// E and the coefficients that fit best, and the sum of Huber losses there.
  std::pair<PowerSum, double> solve(const std::vector<double>& exponents) const {
    const Eigen::Index points = losses_.size(), terms = log_x_.cols(), first = floor_is_free_ ? 1 : 0;
    MatrixXd basis = MatrixXd::Ones(points, first + terms);
    for (Eigen::Index k = 0; k < terms; ++k)
      basis.col(first + k) = (-exponents[k] * (log_x_.col(k).array() - centres_(k))).exp();
    const double floor = floor_is_free_ ? 0 : std::exp(fixed_floor_);
    VectorXd scale = losses_.cwiseInverse(), target = VectorXd::Ones(points) - floor * scale, theta;
    double value = std::numeric_limits<double>::infinity();
    for (int round = 0; round < reweightings; ++round) {
      const MatrixXd rows = scale.asDiagonal() * basis;
      theta = nonnegative_least_squares(rows.transpose() * rows, rows.transpose() * target);
      const VectorXd prediction = (basis * theta).array() + floor;
      if (!(prediction.minCoeff() > 0)) break;
      // ln L is linearised at the prediction; Huber's loss becomes a weight on each point.
      const VectorXd residual = (prediction.array() / losses_.array()).log();
      value = 0;
      for (Eigen::Index i = 0; i < points; ++i) {
        const double size = std::abs(residual(i));
        value += size <= delta_ ? 0.5 * size * size : delta_ * (size - 0.5 * delta_);
        const double root = std::sqrt(std::min(1.0, delta_ / std::max(size, 1e-300)));
        scale(i) = root / prediction(i);
        target(i) = root * (1 - residual(i)) - floor * scale(i);
      }
    }
    return {law_of(theta, exponents), value};
  }

 private:
  PowerSum law_of(const VectorXd& theta, const std::vector<double>& exponents) const {
    // A coefficient of 0 would be minus infinity in the logarithm, where no walk can move it.
    const auto log_of = [&](double value) { return std::log(std::max(value, 1e-12 * losses_.minCoeff())); };
    PowerSum law{.log_floor = floor_is_free_ ? log_of(theta(0)) : fixed_floor_, .terms = {}};
    for (size_t k = 0; k < exponents.size(); ++k) {
      const auto column = static_cast<Eigen::Index>(k);
      law.terms.push_back(
          {.log_coefficient = log_of(theta((floor_is_free_ ? 1 : 0) + column)) + exponents[k] * centres_(column),
           .exponent = exponents[k]});
    }
    return law;
  }

  MatrixXd log_x_;
  VectorXd losses_;
  Eigen::RowVectorXd centres_;
  double fixed_floor_;
  bool floor_is_free_;
  double delta_;
};

/// Walking coordinates, parted into exponents and what is linear.
struct Parts {
  std::vector<int> linear, exponents;
};

Parts parts_of(const PowerSumObjective& objective) {
  Parts parts;
  if (objective.floor_is_free()) parts.linear.push_back(0);
  for (int k = 0; k < objective.num_terms(); ++k) {
    parts.linear.push_back(1 + 2 * k);
    parts.exponents.push_back(2 + 2 * k);
  }
  return parts;
}

MatrixXd hessian_of(const Derivatives& here) {
  MatrixXd matrix(here.size, here.size);
  for (int i = 0; i < here.size; ++i)
    for (int j = 0; j < here.size; ++j) matrix(i, j) = here.hessian[i * here.size + j];
  return matrix;
}

VectorXd gradient_of(const Derivatives& here, const std::vector<int>& which) {
  VectorXd gradient(static_cast<Eigen::Index>(which.size()));
  for (size_t i = 0; i < which.size(); ++i) gradient(static_cast<Eigen::Index>(i)) = here.gradient[which[i]];
  return gradient;
}

/// A place with the derivatives there.
struct Place {
  LawCoordinates at;
  Derivatives here;
};

double largest(const VectorXd& values) { return values.cwiseAbs().maxCoeff(); }

/// Lower, or equal to rounding and flatter in the coordinates that are walked in.
bool is_below(const Place& next, const Place& before, const std::vector<int>& which) {
  if (!std::isfinite(next.here.value)) return false;
  if (next.here.value < before.here.value * (1 - 1e-13)) return true;
  return next.here.value <= before.here.value * (1 + 1e-13) &&
         largest(gradient_of(next.here, which)) < largest(gradient_of(before.here, which));
}

/// Damped Newton steps from the longest down until `go` takes one. @param go  tries a step and says whether it is kept
template <class Go>
bool shorten_until(const MatrixXd& curvature, const VectorXd& gradient, const Go& go) {
  for (double damping = 1e-12; damping < 1e7; damping *= 30) {
    MatrixXd matrix = curvature;
    matrix.diagonal().array() += damping * (matrix.diagonal().array().abs() + 1e-9 * largest(matrix.diagonal()));
    const Eigen::LLT<MatrixXd> factors(matrix);
    if (factors.info() != Eigen::Success) continue;
    VectorXd step = -factors.solve(gradient);
    if (!step.allFinite()) continue;
    if (const double length = largest(step); length > 1) step /= length;
    if (go(step)) return true;
  }
  return false;
}

LawCoordinates moved(LawCoordinates at, const std::vector<int>& which, const VectorXd& step) {
  for (size_t i = 0; i < which.size(); ++i) at[which[i]] += step(static_cast<Eigen::Index>(i));
  return at;
}

/// E and the coefficients to their best, the exponents held.
void settle(LogObjective& objective, Place& place, const Parts& parts) {
  for (int i = 0; i < 60; ++i) {
    const auto gradient = gradient_of(place.here, parts.linear);
    if (largest(gradient) < 1e-12) return;
    const auto go = [&](const VectorXd& step) {
      Place next{.at = moved(place.at, parts.linear, step), .here = {}};
      next.here = objective.evaluate(next.at, Curvature::exact);
      if (!is_below(next, place, parts.linear)) return false;
      place = next;
      return true;
    };
    // The exact curvature need not be positive far away; the reweighted one is.
    if (shorten_until(hessian_of(place.here)(parts.linear, parts.linear), gradient, go)) continue;
    const auto steer = objective.evaluate(place.at, Curvature::reweighted);
    if (!shorten_until(hessian_of(steer)(parts.linear, parts.linear), gradient, go)) return;
  }
}

/// Curvature in the exponents when everything else follows them: a Schur complement.
MatrixXd reduced_hessian(const Derivatives& here, const Parts& parts) {
  const auto full = hessian_of(here);
  const MatrixXd cross = full(parts.linear, parts.exponents);
  return full(parts.exponents, parts.exponents) -
         cross.transpose() * full(parts.linear, parts.linear).completeOrthogonalDecomposition().solve(cross);
}

double ratio_of_eigenvalues(const MatrixXd& matrix) {
  const auto values = Eigen::SelfAdjointEigenSolver<MatrixXd>(matrix).eigenvalues().eval();
  const double smallest = values(0), largest = values(values.size() - 1);
  return smallest > 0 ? largest / smallest : std::numeric_limits<double>::infinity();
}

/// One step in the exponents, which E and the coefficients follow before it is judged; false when none goes down.
bool step_exponents(LogObjective& objective, Place& place, const Parts& parts, const Derivatives& steer) {
  const auto full = hessian_of(steer);
  const MatrixXd follow = -full(parts.linear, parts.linear)
                               .completeOrthogonalDecomposition()
                               .solve(MatrixXd(full(parts.linear, parts.exponents)));
  return shorten_until(reduced_hessian(steer, parts), gradient_of(place.here, parts.exponents),
                       [&](const VectorXd& step) {
                         Place next{.at = moved(place.at, parts.exponents, step), .here = {}};
                         next.at = moved(next.at, parts.linear, follow * step);
                         next.here = objective.evaluate(next.at, Curvature::exact);
                         if (!std::isfinite(next.here.value)) return false;
                         settle(objective, next, parts);
                         if (!is_below(next, place, parts.exponents)) return false;
                         place = next;
                         return true;
                       });
}

/// Where a walk in the exponents alone ends.
struct Refined {
  LawCoordinates at{};
  double objective = 0, gradient_norm = 0, condition_number = 0;
};

Refined refine(LogObjective& objective, const LawCoordinates& start, const Parts& parts, int max_steps) {
  Place place{.at = start, .here = {}};
  place.here = objective.evaluate(place.at, Curvature::exact);
  if (!std::isfinite(place.here.value)) return {.at = start, .objective = place.here.value};
  settle(objective, place, parts);
  for (int i = 0; i < max_steps && largest(gradient_of(place.here, parts.exponents)) > 1e-10; ++i)
    if (!step_exponents(objective, place, parts, place.here) &&
        !step_exponents(objective, place, parts, objective.evaluate(place.at, Curvature::reweighted)))
      break;
  const auto steer = objective.evaluate(place.at, Curvature::reweighted);
  return {.at = place.at,
          .objective = place.here.value,
          .gradient_norm = largest(gradient_of(place.here, parts.exponents)),
          .condition_number = ratio_of_eigenvalues(reduced_hessian(steer, parts))};
}

/// Exponents that are tried: 24 for one or two terms, fewer for more, so that there are some 700 choices.
std::vector<double> exponent_grid(size_t terms) {
  const double ratio = terms <= 2 ? 1.2 : terms == 3 ? 1.65 : 2.4;
  std::vector<double> grid;
  for (double exponent = 0.04; exponent < 3; exponent *= ratio) grid.push_back(exponent);
  return grid;
}

}  // namespace

ProjectedFit project_variables(PowerSumObjective objective, const std::vector<std::vector<double>>& x,
                               const std::vector<double>& losses) {
  const Projection projection(objective, x, losses);
  const auto parts = parts_of(objective);
  const size_t terms = x.size();
  const auto grid = exponent_grid(terms);
  size_t places = 1;
  for (size_t k = 0; k < terms; ++k) places *= grid.size();
  std::vector<std::pair<double, PowerSum>> found;
  for (size_t place = 0; place < places; ++place) {
    std::vector<double> exponents;
    for (size_t k = 0, rest = place; k < terms; ++k, rest /= grid.size()) exponents.push_back(grid[rest % grid.size()]);
    auto [law, value] = projection.solve(exponents);
    if (std::isfinite(value)) found.emplace_back(value, std::move(law));
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  ProjectedFit best{.law = {}, .objective = std::numeric_limits<double>::infinity()};
  for (size_t i = 0; i < std::min<size_t>(refined_places, found.size()); ++i)
    if (const auto end = refine(objective, objective.to_coordinates(found[i].second), parts, 200);
        end.objective < best.objective)
      best = {.law = objective.from_coordinates(end.at),
              .objective = end.objective,
              .gradient_norm = end.gradient_norm,
              .condition_number = end.condition_number};
  best.grid = static_cast<int>(places);
  return best;
}

namespace {

/// E and the coefficients of a law at given exponents, by non-negative least squares of the linearised law, reweighted
/// until they fit Huber's loss of ln L. Parts of the law's coordinates follow in `at`. @return the sum there
double solve_linear(SmoothObjective& objective, const Parts& parts, LawCoordinates& at) {
  const int points = objective.num_points();
  const auto& law = objective.law();
  const double lowest = [&] {
    double value = objective.loss(0);
    for (int i = 1; i < points; ++i) value = std::min(value, objective.loss(i));
    return value;
  }();
  double value = std::numeric_limits<double>::infinity();
  auto best = at;
  for (int round = 0; round < reweightings; ++round) {
    MatrixXd rows(points, static_cast<Eigen::Index>(parts.linear.size()));
    VectorXd target(points);
    for (int i = 0; i < points; ++i) {
      LawCoordinates gradient{};
      const double prediction = law.loss(objective.log_x(i), at, gradient);
      const double residual = std::log(prediction / objective.loss(i));
      if (!std::isfinite(residual)) return value;
      const double size = std::max(std::abs(residual), 1e-300);
      // The first round has no residuals to weigh by: coefficients of 1 are no guess.
      const double root = round == 0 ? 1 : std::sqrt(std::min(1.0, objective.delta() / size));
      const double scale = root / (round == 0 ? objective.loss(i) : prediction);
      double linear = 0;
      for (size_t k = 0; k < parts.linear.size(); ++k) {
        rows(i, static_cast<Eigen::Index>(k)) = scale * gradient[parts.linear[k]] / std::exp(at[parts.linear[k]]);
        linear += gradient[parts.linear[k]];
      }
      const double rest = prediction - linear;  // what no coefficient moves: a fixed floor
      target(i) = round == 0 ? 1 - scale * rest : root * (1 - residual) - scale * rest;
    }
    const auto theta = nonnegative_least_squares(rows.transpose() * rows, rows.transpose() * target);
    for (size_t k = 0; k < parts.linear.size(); ++k)
      at[parts.linear[k]] = std::log(std::max(theta(static_cast<Eigen::Index>(k)), 1e-9 * lowest));
    const auto here = objective.evaluate(at, Curvature::reweighted);
    if (here.value < value) {
      value = here.value;
      best = at;
    }
  }
  at = best;
  return value;
}

}  // namespace

ProjectedLaw project_law(SmoothObjective objective) {
  const auto& law = objective.law();
  Parts parts;
  for (int i = objective.floor_is_free() ? 0 : 1; i < law.size(); ++i)
    (i > 0 && !law.parameters[i].from.empty() ? parts.exponents : parts.linear).push_back(i);
  std::vector<LawCoordinates> places = {LawCoordinates{}};
  places.front()[0] = objective.log_fixed_floor().value_or(0);
  for (const int i : parts.exponents) {
    // Between and beyond the places that the other search starts from.
    const auto& from = law.parameters[i].from;
    std::vector<double> values;
    const double gap = from.size() > 1 ? from[1] - from[0] : 0.3;
    values.push_back(from.front() - 0.3 * gap);
    for (size_t k = 0; k + 1 < from.size(); ++k) values.push_back(0.6 * from[k] + 0.4 * from[k + 1]);
    values.push_back(from.back() + 0.3 * (from.back() - from[from.size() - (from.size() > 1 ? 2 : 1)]));
    std::vector<LawCoordinates> more;
    for (const auto& place : places)
      for (const double value : values) {
        more.push_back(place);
        more.back()[i] = value;
      }
    places = std::move(more);
  }
  std::vector<std::pair<double, LawCoordinates>> found;
  for (auto& place : places)
    if (const double value = solve_linear(objective, parts, place); std::isfinite(value))
      found.emplace_back(value, place);
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  ProjectedLaw best{.at = {}, .objective = std::numeric_limits<double>::infinity()};
  best.grid = static_cast<int>(places.size());
  for (size_t i = 0; i < std::min<size_t>(refined_places, found.size()); ++i)
    if (const auto end = refine(objective, found[i].second, parts, 60); end.objective < best.objective) {
      best.at = end.at;
      best.objective = end.objective;
      best.gradient_norm = end.gradient_norm;
      best.condition_number = end.condition_number;
    }
  return best;
}

double condition_number(SmoothObjective& objective, const LawCoordinates& at) {
  const auto here = objective.evaluate(at, Curvature::reweighted);
  const MatrixXd matrix = hessian_of(here);
  MatrixXd change = MatrixXd::Identity(here.size, here.size);
  for (int i = 0; i < here.size; ++i)
    if (const auto& parameter = objective.law().parameters[i]; parameter.scaled_by >= 0)
      change(i, parameter.scaled_by) = -parameter.centre;
  const MatrixXd literature = change.transpose() * matrix * change;
  const int held = objective.floor_is_free() ? 0 : 1;
  return ratio_of_eigenvalues(literature.bottomRightCorner(here.size - held, here.size - held));
}

double condition_number(PowerSumObjective& objective, const LawCoordinates& at) {
  const auto here = objective.evaluate(at, Curvature::reweighted);
  MatrixXd matrix = hessian_of(here);
  // ln A and alpha instead of ln of the term at the centre and alpha.
  MatrixXd change = MatrixXd::Identity(here.size, here.size);
  for (int k = 0; k < objective.num_terms(); ++k) change(1 + 2 * k, 2 + 2 * k) = -objective.centre(k);
  matrix = change.transpose() * matrix * change;
  if (objective.floor_is_free()) return ratio_of_eigenvalues(matrix);
  return ratio_of_eigenvalues(matrix.bottomRightCorner(here.size - 1, here.size - 1));
}

}  // namespace attnscale
