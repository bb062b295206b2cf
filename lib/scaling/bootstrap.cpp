#include "scaling/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <Eigen/Eigenvalues>

#include "scaling/statistics.h"

namespace attnscale {
namespace {

using Square = Eigen::MatrixXd;

constexpr double level = 0.95;  // the t-stretch is exact at this level

/// Uniform on 0 .. count - 1, the same on every standard library (std::uniform_int_distribution is not).
int draw(std::mt19937_64& random, int count) {
  return static_cast<int>((static_cast<unsigned __int128>(random()) * static_cast<unsigned>(count)) >> 64);
}

double random_sign(std::mt19937_64& random) { return random() >> 63 ? -1 : 1; }

constexpr int many_cells = 2000;
// Far from an optimum a gradient is 1e-3 and more. Below this, rounding at worst moves the law by less than is printed.
constexpr double failed_gradient = 1e-6;

bool is_better(const Minimum& one, const Minimum& other) {
  return std::isfinite(one.objective) && (!std::isfinite(other.objective) || one.objective < other.objective);
}

/// Lowest of three walks: a resampled objective can have moved to the next valley.
Minimum refit(PowerSumObjective& objective, const LawCoordinates& optimum) {
  if (objective.num_cells() > many_cells)
    return minimise(objective, optimum, {.max_iterations = 2, .gradient_tolerance = 1e-8, .first = Curvature::exact});
  Minimum best;
  for (const double shift : {0.0, -1.0, 1.0}) {
    auto start = optimum;
    if (objective.floor_is_free()) start[0] += 0.05 * shift;  // a known floor stays where it is
    for (int k = 0; k < objective.num_terms(); ++k) start[2 + 2 * k] *= 1 + 0.4 * shift;
    const auto end = minimise(objective, start, {.max_iterations = 120, .gradient_tolerance = 1e-8});
    if (shift == 0 || is_better(end, best)) best = end;
  }
  if (!(best.gradient_norm < failed_gradient))
    best = minimise(objective, best.at, {.max_iterations = 1000, .gradient_tolerance = 1e-8});
  return best;
}

bool has_failed(const PowerSumObjective& objective, const Minimum& end) {
  if (!std::isfinite(end.objective) || !std::isfinite(end.gradient_norm)) return true;
  // A step of a k-step walk is not meant to end at the optimum.
  return objective.num_cells() <= many_cells && !(end.gradient_norm < failed_gradient);
}

/// Inverse of J'J, J the Jacobian of ln(prediction) with the given rows.
Square inverse_normal(const std::vector<std::array<double, max_parameters>>& rows, int size) {
  Square normal = Square::Zero(size, size);
  for (const auto& row : rows)
    for (int i = 0; i < size; ++i)
      for (int j = 0; j < size; ++j) normal(i, j) += row[i] * row[j];
  // Pseudo-inverse: a fixed floor or a vanished term leaves empty directions.
  const Eigen::SelfAdjointEigenSolver<Square> eigen(normal);
  const auto& values = eigen.eigenvalues();
  Square inverse = Square::Zero(size, size);
  for (int i = 0; i < size; ++i)
    if (values(i) > 1e-13 * values(size - 1))
      inverse += eigen.eigenvectors().col(i) * eigen.eigenvectors().col(i).transpose() / values(i);
  return inverse;
}

/// How much of its own loss each group fixes: the trace of its block of the hat matrix, below 1 for
/// a group of equal rows. [G]
std::vector<double> leverages(PowerSumObjective& objective, const LawCoordinates& at, const std::vector<int>& group,
                              int groups) {
  const auto rows = objective.log_jacobian(at);
  const int size = 1 + 2 * objective.num_terms();
  const auto inverse = inverse_normal(rows, size);
  std::vector<double> result(groups, 0.0);
  for (size_t p = 0; p < rows.size(); ++p)
    for (int i = 0; i < size; ++i)
      for (int j = 0; j < size; ++j) result[group[p]] += rows[p][i] * inverse(i, j) * rows[p][j];
  return result;
}

/// By how much residuals are stretched because few groups measure their own spread badly.
double t_stretch(int groups, int parameters) {
  return student_t_quantile(0.5 + level / 2, std::max(1, groups - parameters)) / 1.959963984540054;
}

struct Residuals {
  std::vector<double> predicted;          ///< ln L of the law [P]
  std::vector<double> within;             ///< residual minus its group's mean [P]
  std::vector<std::vector<int>> members;  ///< the points of each group [G]
  std::vector<double> means;              ///< mean residual per group, inflated for leverage and few groups [G]
};

Residuals group_residuals(PowerSumObjective& objective, const LawCoordinates& at, const std::vector<int>& group,
                          int groups) {
  Residuals out;
  out.predicted = objective.log_predictions(at);
  out.means.assign(groups, 0.0);
  out.members.resize(groups);
  std::vector<double> counts(groups, 0.0);
  for (size_t i = 0; i < group.size(); ++i) {
    out.within.push_back(objective.log_losses()[i] - out.predicted[i]);
    out.means[group[i]] += out.within[i];
    counts[group[i]] += 1;
    out.members[group[i]].push_back(static_cast<int>(i));
  }
  for (int g = 0; g < groups; ++g) out.means[g] /= counts[g];
  for (size_t i = 0; i < group.size(); ++i) out.within[i] -= out.means[group[i]];

  const double stretch = t_stretch(groups, objective.num_free());
  const auto leverage = leverages(objective, at, group, groups);
  for (int g = 0; g < groups; ++g) out.means[g] *= stretch / std::sqrt(1 - std::min(leverage[g], 0.95));
  return out;
}

/// The residuals of whole runs, each run's vector freed of what it fixes itself: (I - H)^(-1/2) e, stretched. [P]
std::vector<double> run_residuals(PowerSumObjective& objective, const LawCoordinates& at,
                                  const std::vector<std::vector<int>>& members, std::vector<double>& predicted) {
  const auto rows = objective.log_jacobian(at);
  const int size = 1 + 2 * objective.num_terms();
  const auto inverse = inverse_normal(rows, size);
  predicted = objective.log_predictions(at);
  std::vector<double> freed(predicted.size());
  const double stretch = t_stretch(static_cast<int>(members.size()), objective.num_free());
  const Eigen::SelfAdjointEigenSolver<Square> of_inverse(inverse);
  const Square root = of_inverse.eigenvectors() * of_inverse.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal() *
                      of_inverse.eigenvectors().transpose();
  for (const auto& own : members) {
    const auto count = static_cast<Eigen::Index>(own.size());
    Square jacobian(count, size);
    Eigen::VectorXd residual(count);
    for (Eigen::Index i = 0; i < count; ++i) {
      const auto point = static_cast<size_t>(own[static_cast<size_t>(i)]);
      for (int j = 0; j < size; ++j) jacobian(i, j) = rows[point][j];
      residual(i) = objective.log_losses()[point] - predicted[point];
    }
    // H has at most `size` eigenvalues that are not 0: those of R J'J R, with R R the inverse of the whole J'J.
    const Square spread = jacobian * root;  // H = spread spread'
    const Eigen::SelfAdjointEigenSolver<Square> eigen(Square(spread.transpose() * spread));
    for (int k = 0; k < size; ++k) {
      const double lever = std::min(eigen.eigenvalues()(k), 0.95);
      if (lever < 1e-12) continue;
      const Eigen::VectorXd direction = (spread * eigen.eigenvectors().col(k)).normalized();
      residual += (1 / std::sqrt(1 - lever) - 1) * direction.dot(residual) * direction;
    }
    for (Eigen::Index i = 0; i < count; ++i) freed[own[static_cast<size_t>(i)]] = stretch * residual(i);
  }
  return freed;
}

}  // namespace

Bootstrap bootstrap(PowerSumObjective objective, const Minimum& optimum, const std::vector<int>& group,
                    const std::vector<int>& cell_of_design, const BootstrapOptions& options) {
  Bootstrap result;
  const size_t points = group.size();
  result.groups = points == 0 ? 0 : 1 + *std::max_element(group.begin(), group.end());
  std::vector<int> design(result.groups, -1);
  for (size_t i = 0; i < points; ++i) {
    auto& seen = design[group[i]];
    if (seen >= 0 && seen != cell_of_design[i]) result.method = Resampling::runs;
    seen = cell_of_design[i];
  }
  std::vector<std::vector<int>> members(result.groups);
  for (size_t i = 0; i < points; ++i) members[group[i]].push_back(static_cast<int>(i));
  const bool alike = std::all_of(members.begin(), members.end(),
                                 [&](const std::vector<int>& own) { return own.size() == members.front().size(); });
  if (result.method == Resampling::runs && alike && result.groups > objective.num_free())
    result.method = Resampling::run_residuals;
  const bool by_residuals = result.method == Resampling::residuals;
  // Residuals need spare cells; whole groups need enough of them to draw from.
  if (by_residuals ? result.groups <= objective.num_free() : result.groups < 4) return result;

  Residuals residuals;
  std::vector<double> predicted, freed;
  if (result.method == Resampling::run_residuals) freed = run_residuals(objective, optimum.at, members, predicted);
  if (by_residuals) residuals = group_residuals(objective, optimum.at, group, result.groups);
  std::mt19937_64 random(options.seed);
  std::vector<double> times(result.groups), values(points);
  for (int replicate = 0; replicate < options.replicates; ++replicate) {
    if (by_residuals) {
      for (int g = 0; g < result.groups; ++g) {
        const double mean = random_sign(random) * residuals.means[draw(random, result.groups)];
        // The seeds' deviations come from any cell with as many seeds, so that their mean stays 0.
        const auto& own = residuals.members[g];
        const auto* other = &residuals.members[draw(random, result.groups)];
        if (other->size() != own.size()) other = &own;
        const double sign = random_sign(random);
        for (size_t i = 0; i < own.size(); ++i)
          values[own[i]] = residuals.predicted[own[i]] + mean + sign * residuals.within[(*other)[i]];
      }
      objective.set_log_losses(values);
    } else if (result.method == Resampling::run_residuals) {
      for (const auto& own : members) {
        const double sign = random_sign(random);
        const auto& other = members[draw(random, result.groups)];
        for (size_t i = 0; i < own.size(); ++i) values[own[i]] = predicted[own[i]] + sign * freed[other[i]];
      }
      objective.set_log_losses(values);
    } else {
      std::fill(times.begin(), times.end(), 0.0);
      for (int g = 0; g < result.groups; ++g) times[draw(random, result.groups)] += 1;
      for (size_t i = 0; i < points; ++i) values[i] = times[group[i]];
      objective.set_weights(values);
    }
    const auto end = refit(objective, optimum.at);
    if (has_failed(objective, end)) ++result.failed;
    else result.laws.push_back(objective.from_coordinates(end.at));
  }
  return result;
}

std::optional<Interval> replicate_interval(std::vector<double> values, int failed, double level) {
  const auto is_nan = [](double value) { return std::isnan(value); };
  const auto end = std::remove_if(values.begin(), values.end(), is_nan);
  const double lost = failed + static_cast<double>(values.end() - end);
  values.erase(end, values.end());
  std::sort(values.begin(), values.end());
  const double last = static_cast<double>(values.size()) - 1;
  // Places among all replicates, those that are lost put first for the lower end and last for the upper one.
  const double place = (1 - level) / 2 * (last + lost);
  const double low = place - lost, high = last + lost - place;
  if (low < 0 || high > last) return std::nullopt;
  const auto at = [&](double where) {
    const auto below = static_cast<size_t>(where);
    const double part = where - static_cast<double>(below);
    return part == 0 ? values[below] : values[below] + part * (values[below + 1] - values[below]);
  };
  const Interval interval{at(low), at(high)};
  if (!std::isfinite(interval.low) || !std::isfinite(interval.high)) return std::nullopt;
  return interval;
}

}  // namespace attnscale
