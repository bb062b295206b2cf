#include "scaling/trend.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>
#include <Eigen/Dense>

#include "scaling/statistics.h"

namespace attnscale {
namespace {

/// What the loss does between the best value of x and the largest one.
std::string rise_at_the_end(const std::vector<double>& x, const std::vector<double>& losses,
                            const std::string& symbol) {
  std::map<double, std::vector<double>> by_x;
  for (size_t i = 0; i < x.size(); ++i) by_x[x[i]].push_back(std::log(losses[i]));
  // With so many values one of them is the lowest by chance.
  if (by_x.size() > 50) return "";
  double squares = 0, freedom = 0;
  const std::pair<const double, std::vector<double>>* lowest = nullptr;
  for (const auto& group : by_x) {
    squares += std::pow(standard_deviation(group.second), 2) * static_cast<double>(group.second.size() - 1);
    freedom += static_cast<double>(group.second.size() - 1);
    if (!lowest || mean(group.second) < mean(lowest->second)) lowest = &group;
  }
  const auto& last = *by_x.rbegin();
  const double rise = mean(last.second) - mean(lowest->second);
  // Without seeds, what a validation loss scatters by is not known: .01 of it is more than usual.
  const double threshold = freedom > 0 ? std::max(0.002, 3 * std::sqrt(squares / freedom)) : 0.01;
  if (!(rise > threshold)) return "";
  return fmt::format(
      "the loss rises again beyond {} = {:.6g}, by {:.2g} % at the largest: the law describes only the part before; "
      "tune the learning rate of the larger runs, train them longer, or leave them out",
      symbol, lowest->first, 100 * std::expm1(rise));
}

std::string no_fall(double slope, double error, const std::string& symbol) {
  if (slope == 0 || std::abs(slope) < 1e-12)
    return fmt::format(
        "THE LOSS IS CONSTANT in {0}: there is no scaling law in {0} to fit, and no E behind it; check "
        "that the runs differ, and widen the span of {0}",
        symbol);
  if (slope > 2 * error)
    return fmt::format(
        "THE LOSS RISES WITH {0} (ln L by {1:+.2g} per unit of ln {0}): this is no scaling law, and E "
        "and the exponent mean nothing; check the learning rate of the larger runs and the columns",
        symbol, slope);
  return fmt::format(
      "THE LOSS IS NOT SHOWN TO FALL WITH {0} (ln L by {1:+.2g} per unit of ln {0}, standard error "
      "{2:.2g}): nothing is extrapolated from this; widen the span of {0} or add seeds",
      symbol, slope, error);
}

}  // namespace

std::vector<Trend> loss_trends(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                               const std::vector<std::string>& symbols) {
  const auto points = static_cast<Eigen::Index>(losses.size()), terms = static_cast<Eigen::Index>(x.size());
  Eigen::MatrixXd design(points, 1 + terms);
  Eigen::VectorXd log_losses(points);
  for (Eigen::Index i = 0; i < points; ++i) {
    design(i, 0) = 1;
    for (Eigen::Index k = 0; k < terms; ++k) design(i, 1 + k) = std::log(x[k][i]);
    log_losses(i) = std::log(losses[i]);
  }
  // Centred, so that a loss that is the same everywhere gives slopes of exactly 0.
  log_losses.array() -= log_losses(0);
  const Eigen::ColPivHouseholderQR<Eigen::MatrixXd> factors(design);
  const Eigen::VectorXd solution = factors.solve(log_losses);
  const double freedom = std::max<double>(1, static_cast<double>(points - 1 - terms));
  const double variance = (log_losses - design * solution).squaredNorm() / freedom;
  const Eigen::MatrixXd inverse = (design.transpose() * design).completeOrthogonalDecomposition().pseudoInverse();
  std::vector<Trend> trends;
  for (Eigen::Index k = 0; k < terms; ++k) {
    const double slope = solution(1 + k), error = std::sqrt(std::max(0.0, variance * inverse(1 + k, 1 + k)));
    Trend trend;
    trend.falls = slope < -1e-12 && slope < -2 * error;
    // Three points of a curve that flattens scatter about a line: with few points falling at every step is enough.
    if (!trend.falls && slope < -1e-12 && terms == 1) {
      std::map<double, std::pair<double, int>> means;
      for (Eigen::Index i = 0; i < points; ++i) {
        means[x[0][i]].first += log_losses(i);
        ++means[x[0][i]].second;
      }
      trend.falls = means.size() < 6;
      double last = std::numeric_limits<double>::infinity();
      for (const auto& [at, sum] : means) {
        trend.falls = trend.falls && sum.first / sum.second < last;
        last = sum.first / sum.second;
      }
    }
    if (!trend.falls) trend.reason = no_fall(slope, error, symbols[k]);
    else if (terms == 1) trend.warning = rise_at_the_end(x[k], losses, symbols[k]);
    trends.push_back(std::move(trend));
  }
  return trends;
}

}  // namespace attnscale
