#include "scaling/profile.h"

#include <algorithm>
#include <cmath>

#include <Eigen/Dense>

namespace attnscale {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

/// The groups' mean ln L as an objective of squares, each counted as often as it has points.
PowerSumObjective group_means(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                              const std::vector<int>& group, std::optional<double> fixed_E) {
  const auto groups = static_cast<size_t>(1 + *std::max_element(group.begin(), group.end()));
  std::vector<double> sums(groups, 0.0), counts(groups, 0.0);
  std::vector<std::vector<double>> columns(x.size(), std::vector<double>(groups, 0.0));
  for (size_t i = 0; i < losses.size(); ++i) {
    sums[group[i]] += std::log(losses[i]);
    counts[group[i]] += 1;
    for (size_t k = 0; k < x.size(); ++k) columns[k][group[i]] = x[k][i];
  }
  for (size_t g = 0; g < groups; ++g) sums[g] = std::exp(sums[g] / counts[g]);
  // Beyond any residual: Huber's loss is a square everywhere.
  PowerSumObjective objective(columns, sums, 1e6, fixed_E);
  objective.set_weights(std::move(counts));
  return objective;
}

/// A quantity with its derivatives in walking coordinates, by central differences. Its second ones only steer.
struct Expansion {
  double value = 0;
  VectorXd gradient;
  MatrixXd hessian;
};

class Walk {
 public:
  Walk(LogObjective& objective, const CoordinateQuantity& quantity, int size)
      : objective_(objective), quantity_(quantity), size_(size) {}

  double value(const LawCoordinates& at) const { return quantity_(at); }

  Expansion expand(const LawCoordinates& at) const {
    constexpr double step = 1e-4;
    Expansion out{.value = value(at), .gradient = VectorXd::Zero(size_), .hessian = MatrixXd::Zero(size_, size_)};
    const auto moved = [&](int i, double by, int j = 0, double by_j = 0) {
      auto place = at;
      place[i] += by;
      place[j] += by_j;
      return value(place);
    };
    for (int i = first(); i < size_; ++i) {
      const double up = moved(i, step), down = moved(i, -step);
      // Richardson's extrapolation: the gradient decides where the walk ends.
      out.gradient(i) = (8 * (moved(i, step / 2) - moved(i, -step / 2)) - (up - down)) / (6 * step);
      out.hessian(i, i) = (up - 2 * out.value + down) / (step * step);
      for (int j = first(); j < i; ++j)
        out.hessian(i, j) = out.hessian(j, i) = (moved(i, step, j, step) - moved(i, step, j, -step) -
                                                 moved(i, -step, j, step) + moved(i, -step, j, -step)) /
                                                (4 * step * step);
    }
    return out;
  }

  /// Best law with the quantity held, from a law near it: Newton's method on the Lagrangian. `at` follows.
  /// @return its sum of squares (halved), or nothing where the walk does not arrive
  std::optional<double> held_at(double held, LawCoordinates& at) {
    auto place = at;
    double multiplier = 0;
    for (int round = 0; round < 60; ++round) {
      const auto here = objective_.evaluate(place, Curvature::exact);
      const auto of = expand(place);
      if (!std::isfinite(here.value) || !std::isfinite(of.value) || !of.gradient.allFinite()) return std::nullopt;
      const VectorXd gradient = Eigen::Map<const VectorXd>(here.gradient.data(), size_);
      if (round == 0) multiplier = -gradient.dot(of.gradient) / of.gradient.squaredNorm();
      const double missing = held - of.value;
      MatrixXd system = MatrixXd::Zero(size_ + 1, size_ + 1);
      for (int i = 0; i < size_; ++i)
        for (int j = 0; j < size_; ++j) system(i, j) = here.hessian[i * size_ + j] + multiplier * of.hessian(i, j);
      system.topRightCorner(size_, 1) = of.gradient;
      system.bottomLeftCorner(1, size_) = of.gradient.transpose();
      VectorXd right(size_ + 1);
      right << -gradient, missing;
      const VectorXd solution = system.fullPivLu().solve(right);
      if (!solution.allFinite()) return std::nullopt;
      VectorXd step = solution.head(size_);
      const double longest = step.cwiseAbs().maxCoeff();
      if (longest > 0.5) step *= 0.5 / longest;
      multiplier = solution(size_);
      for (int i = 0; i < size_; ++i) place[i] += step(i);
      if (longest < 1e-9 && std::abs(missing) < 1e-9 * (1 + std::abs(held))) {
        at = place;
        return here.value;
      }
    }
    return std::nullopt;
  }

 private:
  int first() const { return objective_.floor_is_free() ? 0 : 1; }

  LogObjective& objective_;
  const CoordinateQuantity& quantity_;
  int size_;
};

/// Where a profile ends on one side.
struct Crossing {
  std::optional<double> at;  ///< nothing: the limit is not reached up to where it was looked for
  bool lost = false;         ///< the walk did not arrive, which says nothing about where the end is
};

/// Where the best law with the quantity held reaches `limit`, on the side of `step`, looked for up to `last`.
Crossing crossing(Walk& walk, const Minimum& best, double from, double limit, double step, double last) {
  // The root of the rise is nearly straight in the quantity, so that secants find its crossing.
  const double lift = std::sqrt(limit - best.objective);
  const auto excess = [&](double held, LawCoordinates& along) -> std::optional<double> {
    const auto value = walk.held_at(held, along);
    if (!value) return std::nullopt;
    return std::sqrt(std::max(0.0, *value - best.objective)) - lift;
  };
  LawCoordinates along = best.at, outside_along{};
  double inside = from, inside_excess = -lift, outside = 0, outside_excess = 0;
  for (int failures = 0;;) {
    outside = inside + step;
    if ((step > 0) == (outside > last)) {
      // A stride over the edge may jump a crossing that lies before it: the edge itself decides.
      if (inside == last) return {};
      outside = last;
    }
    outside_along = along;
    const auto found = excess(outside, outside_along);
    if (!found) {
      if (++failures > 40) return {.at = std::nullopt, .lost = true};
      step = (outside - inside) / 2;
      continue;
    }
    outside_excess = *found;
    if (outside_excess > 0) break;
    if (outside == last) return {};
    inside = outside;
    inside_excess = outside_excess;
    along = outside_along;
    step *= 1.5;
  }
  // Regula falsi with the Illinois correction.
  int side = 0;
  for (int i = 0; i < 60 && std::abs(outside - inside) > 1e-10 * (std::abs(inside) + std::abs(step)); ++i) {
    double middle = inside + (outside - inside) * inside_excess / (inside_excess - outside_excess);
    auto middle_along = along;
    auto found = excess(middle, middle_along);
    for (int nearer = 0; !found && nearer < 20; ++nearer) {
      // A walk that starts inside and does not arrive is asked for less; one that lies outside is not needed.
      middle = 0.5 * (inside + middle);
      middle_along = along;
      found = excess(middle, middle_along);
    }
    if (!found) return {.at = std::nullopt, .lost = true};
    if (std::abs(*found) < 1e-10 * lift) return {.at = middle};
    if (*found > 0) {
      outside = middle;
      outside_excess = *found;
      if (side == 1) inside_excess /= 2;
      side = 1;
    } else {
      inside = middle;
      inside_excess = *found;
      along = middle_along;
      if (side == -1) outside_excess /= 2;
      side = -1;
    }
  }
  return {.at = 0.5 * (inside + outside)};
}

}  // namespace

namespace {

/// Variance of ln L between the points of a group, pooled; nothing where every group is one point.
std::optional<double> within_variance(const std::vector<double>& losses, const std::vector<int>& group, size_t groups) {
  std::vector<double> sums(groups, 0.0), counts(groups, 0.0);
  for (size_t i = 0; i < losses.size(); ++i) {
    sums[group[i]] += std::log(losses[i]);
    counts[group[i]] += 1;
  }
  double squares = 0;
  for (size_t i = 0; i < losses.size(); ++i)
    squares += std::pow(std::log(losses[i]) - sums[group[i]] / counts[group[i]], 2);
  const double freedom = static_cast<double>(losses.size() - groups);
  return freedom > 0 ? std::optional(squares / freedom) : std::nullopt;
}

/// Weights of groups that miss the law by more than their points scatter: 1 / (tau^2 + sigma^2 / m), tau^2 by the
/// method of moments (DerSimonian and Laird 1986) from the misfit at weights m; the weights m where there is no such
/// misfit.
std::vector<double> weights_with_misfit(PowerSumObjective& objective, const Minimum& best,
                                        const std::vector<double>& counts, double within) {
  const auto predicted = objective.log_predictions(best.at);
  double misfit = 0, sum = 0, squares = 0;
  for (size_t g = 0; g < counts.size(); ++g) {
    misfit += counts[g] * std::pow(objective.log_losses()[g] - predicted[g], 2);
    sum += counts[g];
    squares += counts[g] * counts[g];
  }
  const auto groups = static_cast<double>(counts.size());
  const double freedom = groups - objective.num_free(), typical = (sum - squares / sum) / (groups - 1);
  const double between = freedom > 0 ? (misfit / freedom - within) / typical : 0;
  if (!(between > 0) || !(within > 0)) return counts;
  std::vector<double> weights;
  double total = 0;
  for (const double count : counts) total += weights.emplace_back(1 / (between + within / count));
  for (double& weight : weights) weight *= sum / total;
  return weights;
}

}  // namespace

LawProfile::LawProfile(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                       const std::vector<int>& group, std::optional<double> fixed_E, const PowerSum& start)
    : objective_(group_means(x, losses, group, fixed_E)),
      freedom_(objective_.num_points() - objective_.num_free()),
      lowest_loss_(*std::min_element(losses.begin(), losses.end())) {
  const DescentOptions to_the_end{.max_iterations = 500, .gradient_tolerance = 1e-12};
  best_ = minimise(objective_, objective_.to_coordinates(start), to_the_end);
  std::vector<double> counts(static_cast<size_t>(objective_.num_points()), 0.0);
  for (const int g : group) counts[g] += 1;
  const auto within = within_variance(losses, group, counts.size());
  if (!within || *std::min_element(counts.begin(), counts.end()) == *std::max_element(counts.begin(), counts.end()))
    return;
  objective_.set_weights(weights_with_misfit(objective_, best_, counts, *within));
  best_ = minimise(objective_, best_.at, to_the_end);
}

std::optional<Interval> LawProfile::interval(const Quantity& quantity, std::optional<double> lowest,
                                             std::optional<double> highest, bool lost_is_open) const {
  auto objective = objective_;  // evaluating it writes scratch
  return profile_interval(
      objective, best_, freedom_, [&](const LawCoordinates& at) { return quantity(objective_.from_coordinates(at)); },
      lowest, highest, lost_is_open);
}

std::optional<Interval> profile_interval(LogObjective& objective, const Minimum& best, double freedom,
                                         const CoordinateQuantity& quantity, std::optional<double> lowest,
                                         std::optional<double> highest, bool lost_is_open) {
  if (freedom < 1 || !(best.objective > 0)) return std::nullopt;
  const double t = student_t_quantile(0.975, freedom);
  const double limit = best.objective * (1 + t * t / freedom);
  const auto here = objective.evaluate(best.at, Curvature::reweighted);
  Walk walk(objective, quantity, here.size);
  const auto of = walk.expand(best.at);
  if (!std::isfinite(limit) || !std::isfinite(of.value) || !of.gradient.allFinite()) return std::nullopt;
  // The first step is the interval of a linear law: t standard errors.
  const Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> curvature(
      here.hessian.data(), here.size, here.size);
  const VectorXd lever = curvature.completeOrthogonalDecomposition().solve(of.gradient);
  const double step = t * std::sqrt(2 * best.objective / freedom * of.gradient.dot(lever));
  if (!(step > 0) || !std::isfinite(step)) return std::nullopt;
  const double far = 1e6 * step;
  const auto low = crossing(walk, best, of.value, limit, -step, lowest.value_or(of.value - far));
  const auto high = crossing(walk, best, of.value, limit, step, highest.value_or(of.value + far));
  if ((!low.at && !lowest) || (!high.at && !highest)) return std::nullopt;
  if ((low.lost || high.lost) && (!lost_is_open || (low.lost && high.lost))) return std::nullopt;
  return Interval{low.at ? *low.at : *lowest, high.at ? *high.at : *highest};
}

}  // namespace attnscale
