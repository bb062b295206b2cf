#include "scaling/isoflop.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>
#include <Eigen/Dense>

#include "scaling/identifiability.h"
#include "scaling/statistics.h"

namespace attnscale {
namespace {

constexpr int fewest_sizes = 4;
constexpr double same_budget = 1.05;

/// Mean loss and ln D of each size of a budget, ascending in ln N.
struct Profile {
  std::vector<double> log_N, log_D, loss;
};

Profile profile_of(const std::vector<Point>& runs) {
  std::map<double, std::pair<std::vector<double>, std::vector<double>>> by_size;
  for (const auto& run : runs) {
    by_size[run.N].first.push_back(std::log(run.D));
    by_size[run.N].second.push_back(run.L);
  }
  Profile profile;
  for (const auto& [N, seen] : by_size) {
    profile.log_N.push_back(std::log(N));
    profile.log_D.push_back(mean(seen.first));
    profile.loss.push_back(mean(seen.second));
  }
  return profile;
}

double interpolated(const std::vector<double>& x, const std::vector<double>& y, double at) {
  auto i = static_cast<size_t>(std::upper_bound(x.begin(), x.end(), at) - x.begin());
  i = std::clamp<size_t>(i, 1, x.size() - 1);
  return y[i - 1] + (y[i] - y[i - 1]) * (at - x[i - 1]) / (x[i] - x[i - 1]);
}

/// Vertex of the least-squares parabola, its loss and the standard error of the vertex (delta method).
void parabola_minimum(const Profile& profile, IsoFlopBudget& budget, double& log_N) {
  const auto count = static_cast<Eigen::Index>(profile.loss.size());
  const double centre = mean(profile.log_N);
  Eigen::MatrixXd design(count, 3);
  Eigen::VectorXd loss(count);
  for (Eigen::Index i = 0; i < count; ++i) {
    const double w = profile.log_N[static_cast<size_t>(i)] - centre;
    design.row(i) << 1, w, w * w;
    loss(i) = profile.loss[static_cast<size_t>(i)];
  }
  const Eigen::Vector3d c = design.colPivHouseholderQr().solve(loss);
  if (!(c(2) > 0)) {
    log_N = std::numeric_limits<double>::quiet_NaN();
    return;
  }
  const double vertex = -c(1) / (2 * c(2));
  log_N = centre + vertex;
  budget.loss = c(0) - c(1) * c(1) / (4 * c(2));
  if (count <= 3) return;
  const double variance = (loss - design * c).squaredNorm() / static_cast<double>(count - 3);
  const Eigen::Vector3d slope(0, -1 / (2 * c(2)), c(1) / (2 * c(2) * c(2)));
  const Eigen::Matrix3d normal = design.transpose() * design;
  budget.log_error = std::sqrt(std::max(0.0, variance * slope.dot(normal.ldlt().solve(slope))));
}

/// Slopes at the knots by Akima's rule, two more secants being extrapolated at each end.
std::vector<double> akima_slopes(const std::vector<double>& x, const std::vector<double>& y) {
  const size_t n = x.size();
  std::vector<double> secant(n + 3);
  for (size_t i = 0; i + 1 < n; ++i) secant[i + 2] = (y[i + 1] - y[i]) / (x[i + 1] - x[i]);
  secant[1] = 2 * secant[2] - secant[3];
  secant[0] = 2 * secant[1] - secant[2];
  secant[n + 1] = 2 * secant[n] - secant[n - 1];
  secant[n + 2] = 2 * secant[n + 1] - secant[n];
  std::vector<double> slopes(n);
  for (size_t i = 0; i < n; ++i) {
    const double right = std::abs(secant[i + 3] - secant[i + 2]), left = std::abs(secant[i + 1] - secant[i]);
    slopes[i] = right + left > 0 ? (right * secant[i + 1] + left * secant[i + 2]) / (right + left)
                                 : 0.5 * (secant[i + 1] + secant[i + 2]);
  }
  return slopes;
}

/// Lowest point of the interpolating cubics: at a knot, or where a cubic's slope is 0.
void akima_minimum(const Profile& profile, IsoFlopBudget& budget, double& log_N) {
  const auto &x = profile.log_N, &y = profile.loss;
  const auto slopes = akima_slopes(x, y);
  const auto lowest = std::min_element(y.begin(), y.end());
  budget.loss = *lowest;
  log_N = x[static_cast<size_t>(lowest - y.begin())];
  for (size_t i = 0; i + 1 < x.size(); ++i) {
    const double width = x[i + 1] - x[i], secant = (y[i + 1] - y[i]) / width;
    const double b = slopes[i], c = (3 * secant - 2 * slopes[i] - slopes[i + 1]) / width;
    const double d = (slopes[i] + slopes[i + 1] - 2 * secant) / (width * width);
    // b + 2 c t + 3 d t^2 = 0, in the form that stands d = 0.
    const double root = c * c - 3 * b * d;
    if (root < 0) continue;
    for (const double sign : {1.0, -1.0}) {
      const double below = -(c + sign * std::sqrt(root));
      const double t = below != 0 ? b / below : -1;
      if (!(t > 0 && t < width)) continue;
      const double value = y[i] + t * (b + t * (c + t * d));
      if (value >= budget.loss) continue;
      budget.loss = value;
      log_N = x[i] + t;
    }
  }
}

void flag_grid(const Profile& profile, double log_N, IsoFlopBudget& budget) {
  const double low = profile.log_N.front(), high = profile.log_N.back();
  const auto name = fmt::format("budget {:.3g}", budget.C);
  if (budget.at_edge) {
    budget.flags.push_back(
        {"isoflop_edge", Severity::error,
         fmt::format("{}: no minimum within its sizes ({:.3g} to {:.3g}), so that it is not in the law; run {} sizes",
                     name, std::exp(low), std::exp(high),
                     profile.loss.front() < profile.loss.back() ? "smaller" : "larger")});
    return;
  }
  if (const double off = log_N - 0.5 * (low + high); std::abs(off) > 0.25 * (high - low))
    budget.flags.push_back({"isoflop_off_centre", Severity::warning,
                            fmt::format("{}: the grid is off centre, which biases a parabola; add {} sizes", name,
                                        off > 0 ? "larger" : "smaller")});
  if (high - low > 2 * std::log(8.0))
    budget.flags.push_back({"isoflop_wide", Severity::warning,
                            fmt::format("{}: sizes span {:.3g}x, which biases a parabola by percents even without "
                                        "noise; stay within 8x of the optimum",
                                        name, std::exp(high - low))});
  const auto [least, most] = std::minmax_element(profile.loss.begin(), profile.loss.end());
  if (*most - *least < 0.01 * *least)
    budget.flags.push_back({"isoflop_flat", Severity::warning,
                            fmt::format("{}: the loss varies by less than 1 % over its sizes: the minimum is hardly "
                                        "determined; span more sizes",
                                        name)});
}

/// Weighted least squares of ln y over ln C.
BudgetLaw budget_law(const std::vector<double>& log_C, const std::vector<double>& log_y,
                     const std::vector<double>& weights) {
  double sum = 0, x_mean = 0, y_mean = 0;
  for (size_t i = 0; i < log_C.size(); ++i) {
    sum += weights[i];
    x_mean += weights[i] * log_C[i];
    y_mean += weights[i] * log_y[i];
  }
  x_mean /= sum;
  y_mean /= sum;
  double xx = 0, xy = 0, squares = 0;
  for (size_t i = 0; i < log_C.size(); ++i) {
    xx += weights[i] * (log_C[i] - x_mean) * (log_C[i] - x_mean);
    xy += weights[i] * (log_C[i] - x_mean) * (log_y[i] - y_mean);
  }
  BudgetLaw law{.log_coefficient = 0, .exponent = xy / xx, .exponent_error = 0};
  law.log_coefficient = y_mean - law.exponent * x_mean;
  for (size_t i = 0; i < log_C.size(); ++i)
    squares += weights[i] * std::pow(log_y[i] - law.log_coefficient - law.exponent * log_C[i], 2);
  if (log_C.size() > 2) law.exponent_error = std::sqrt(squares / static_cast<double>(log_C.size() - 2) / xx);
  return law;
}

void fit_budget_laws(IsoFlopFit& fit) {
  std::vector<double> log_C, log_N, log_D, weights;
  bool errors = true;
  for (const auto& budget : fit.budgets) errors = errors && (budget.at_edge || budget.log_error > 1e-6);
  for (const auto& budget : fit.budgets) {
    if (budget.at_edge) continue;
    log_C.push_back(std::log(budget.C));
    log_N.push_back(std::log(budget.N));
    log_D.push_back(std::log(budget.D));
    weights.push_back(errors ? 1 / (budget.log_error * budget.log_error) : 1);
  }
  if (log_C.size() < 2) {
    fit.flags.push_back({"isoflop_no_law", Severity::error,
                         "no law of the best size: fewer than two budgets bracket a minimum; run other sizes at them"});
    return;
  }
  fit.fitted = true;
  fit.N = budget_law(log_C, log_N, weights);
  fit.D = budget_law(log_C, log_D, weights);
  if (log_C.size() < 3)
    fit.flags.push_back(
        {"isoflop_two_budgets", Severity::warning, "two budgets give a line without an error; run a third"});
  if (const double ratio = std::exp(log_C.back() - log_C.front()); ratio < 30)
    fit.flags.push_back({"isoflop_short_span", Severity::warning,
                         fmt::format("budgets span only {:.3g}x: the exponents are hardly determined; add budgets over "
                                     "100x",
                                     ratio)});
}

Json law_json(const BudgetLaw& law, size_t budgets) {
  Json json = {{"coefficient", std::exp(law.log_coefficient)}, {"exponent", law.exponent}};
  if (budgets > 2) {
    const double half = student_t_quantile(0.975, static_cast<double>(budgets) - 2) * law.exponent_error;
    json["exponent_interval"] = {law.exponent - half, law.exponent + half};
  }
  return json;
}

Json fit_json(const IsoFlopFit& fit) {
  Json json = {{"budgets", Json::array()}};
  Flags flags = fit.flags;
  size_t used = 0;
  for (const auto& budget : fit.budgets) {
    Json entry = {{"C", budget.C}, {"sizes", budget.sizes}, {"at_edge", budget.at_edge}};
    if (!budget.at_edge) {
      ++used;
      entry["N"] = budget.N;
      entry["D"] = budget.D;
      entry["loss"] = budget.loss;
      entry["tokens_per_parameter"] = budget.D / budget.N;
      if (budget.log_error > 0) entry["relative_error"] = budget.log_error;
    }
    json["budgets"].push_back(std::move(entry));
    flags.insert(flags.end(), budget.flags.begin(), budget.flags.end());
  }
  if (fit.fitted) {
    json["N"] = law_json(fit.N, used);
    json["D"] = law_json(fit.D, used);
  }
  json["flags"] = to_json(flags);
  return json;
}

}  // namespace

double BudgetLaw::at(double C) const { return std::exp(log_coefficient + exponent * std::log(C)); }

std::vector<std::vector<Point>> budgets_of(const std::vector<Point>& points) {
  std::vector<std::pair<double, const Point*>> by_C;
  for (const auto& point : points)
    if (point.done() && point.N > 0 && point.D > 0)
      by_C.emplace_back(point.C > 0 ? point.C : 6 * point.N * point.D, &point);
  std::stable_sort(by_C.begin(), by_C.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::vector<Point>> budgets;
  double first = 0;
  for (const auto& [C, point] : by_C) {
    if (budgets.empty() || C > first * same_budget) {
      budgets.emplace_back();
      first = C;
    }
    budgets.back().push_back(*point);
    budgets.back().back().C = C;
  }
  std::erase_if(budgets, [](const std::vector<Point>& runs) {
    std::vector<double> sizes;
    for (const auto& run : runs) sizes.push_back(run.N);
    return distinct_values(sizes) < fewest_sizes;
  });
  return budgets;
}

IsoFlopFit fit_isoflop(const std::vector<std::vector<Point>>& budgets, IsoFlopMethod method) {
  IsoFlopFit fit;
  for (const auto& runs : budgets) {
    const auto profile = profile_of(runs);
    IsoFlopBudget budget;
    for (const auto& run : runs) budget.C += std::log(run.C) / static_cast<double>(runs.size());
    budget.C = std::exp(budget.C);
    budget.sizes = static_cast<int>(profile.loss.size());
    double log_N = 0;
    if (method == IsoFlopMethod::parabola) parabola_minimum(profile, budget, log_N);
    else akima_minimum(profile, budget, log_N);
    budget.at_edge = !(log_N > profile.log_N.front() && log_N < profile.log_N.back());
    if (!budget.at_edge) {
      budget.N = std::exp(log_N);
      budget.D = std::exp(interpolated(profile.log_N, profile.log_D, log_N));
    }
    flag_grid(profile, log_N, budget);
    fit.budgets.push_back(std::move(budget));
  }
  fit_budget_laws(fit);
  return fit;
}

Json isoflop_report(const std::vector<Point>& points) {
  const auto budgets = budgets_of(points);
  if (budgets.size() < 2) return nullptr;
  return {{"parabola", fit_json(fit_isoflop(budgets, IsoFlopMethod::parabola))},
          {"akima", fit_json(fit_isoflop(budgets, IsoFlopMethod::akima))}};
}

}  // namespace attnscale
