#include "scaling/power_sum.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "support.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;

TEST_CASE("power_sum: the objective of two points by hand, one in each branch of Huber's loss") {
  // Law 1 + 4 x^-1: at x = 4 it is 2, at x = 2 it is 3. Observed ln L are 0.25 below (delta 0.5: square,
  // 0.25^2 / 2 = 0.03125) and 1 above (absolute: 0.5 (1 - 0.25) = 0.375).
  PowerSumObjective objective({{4, 2}}, {2 * std::exp(-0.25), 3 * std::exp(1.0)}, 0.5);
  const PowerSum law{.log_floor = 0, .terms = {{.log_coefficient = std::log(4.0), .exponent = 1}}};
  const auto at = objective.evaluate(objective.to_coordinates(law), Curvature::exact);
  CHECK_THAT(at.value, WithinAbs(0.03125 + 0.375, 1e-14));  // rounding of a few logarithms
  // d ln L / d ln E = E / L = 1/2 and 1/3; Huber's slopes are 0.25 and -0.5.
  const auto gradient = objective.literature_gradient(at);
  CHECK_THAT(gradient[0], WithinAbs(0.25 / 2 - 0.5 / 3, 1e-14));
  // d / d ln A = (L - E) / L = 1/2 and 2/3; d / d alpha = -that times ln x.
  CHECK_THAT(gradient[1], WithinAbs(0.25 / 2 - 0.5 * 2 / 3, 1e-14));
  CHECK_THAT(gradient[2], WithinAbs(-0.25 / 2 * std::log(4.0) + 0.5 * 2 / 3 * std::log(2.0), 1e-14));
}

TEST_CASE("power_sum: gradient and Hessian agree with finite differences for one, two and three terms") {
  for (int terms = 1; terms <= 3; ++terms) {
    std::vector<std::vector<double>> x(terms);
    std::vector<double> losses;
    for (int i = 0; i < 11; ++i) {
      for (int k = 0; k < terms; ++k) x[k].push_back(std::exp(1.0 + 0.37 * ((i * (2 * k + 3)) % 11)));
      losses.push_back(1.5 + 0.1 * std::sin(3.0 * i) + 0.3 * terms);
    }
    // delta = 0.05 puts some residuals in each branch.
    PowerSumObjective objective(x, losses, 0.05);
    objective.set_weights({1, 2, 0, 1, 1, 3, 1, 1, 1, 2, 1});
    LawCoordinates at{0.3, -1.0, 0.4, -1.3, 0.7, -0.9, 0.2};
    const auto here = objective.evaluate(at, Curvature::exact);
    // Central differences of step h: error about h^2 + 1e-16 / h, below 1e-8 at h = 1e-5.
    const double h = 1e-5;
    for (int i = 0; i < here.size; ++i) {
      auto up = at, down = at;
      up[i] += h;
      down[i] -= h;
      const auto above = objective.evaluate(up, Curvature::exact), below = objective.evaluate(down, Curvature::exact);
      CHECK_THAT(here.gradient[i], WithinAbs((above.value - below.value) / (2 * h), 1e-8));
      for (int j = 0; j < here.size; ++j)
        CHECK_THAT(here.hessian[i * here.size + j], WithinAbs((above.gradient[j] - below.gradient[j]) / (2 * h), 1e-7));
    }
  }
}

TEST_CASE("power_sum: the literature's gradient is the derivative by ln A and alpha themselves") {
  const std::vector<double> N = {1e3, 3e4, 2e6}, D = {5e5, 1e7, 3e6}, L = {4, 3, 2.5};
  PowerSumObjective objective({N, D}, L, 0.05);
  const PowerSum law{.log_floor = 0.5, .terms = {{3, 0.3}, {5, 0.4}}};
  const auto gradient =
      objective.literature_gradient(objective.evaluate(objective.to_coordinates(law), Curvature::exact));
  const auto value = [&](const PowerSum& at) {
    return objective.evaluate(objective.to_coordinates(at), Curvature::exact).value;
  };
  const double h = 1e-6;
  for (int k = 0; k < 2; ++k) {
    auto up = law, down = law;
    up.terms[k].log_coefficient += h;
    down.terms[k].log_coefficient -= h;
    CHECK_THAT(gradient[1 + 2 * k], WithinAbs((value(up) - value(down)) / (2 * h), 1e-8));
    up = down = law;
    up.terms[k].exponent += h;
    down.terms[k].exponent -= h;
    CHECK_THAT(gradient[2 + 2 * k], WithinAbs((value(up) - value(down)) / (2 * h), 1e-8));
  }
}

TEST_CASE("power_sum: parameters that overflow have the value infinity, not NaN") {
  PowerSumObjective objective({{1, 10}}, {2, 1}, 1e-3);
  const auto far = objective.evaluate({800, 800, 0}, Curvature::exact);
  CHECK(std::isinf(far.value));
  CHECK(far.value > 0);
}

TEST_CASE("power_sum: the Jacobian is the derivative of the log prediction") {
  PowerSumObjective objective({{10, 20, 70}, {3, 9, 4}}, {2, 1.5, 1.2}, 1e-3);
  LawCoordinates at{0.1, -0.5, 0.6, -1.1, 0.3};
  const auto rows = objective.log_jacobian(at);
  const double h = 1e-6;
  for (int i = 0; i < 5; ++i) {
    auto up = at, down = at;
    up[i] += h;
    down[i] -= h;
    const auto above = objective.log_predictions(up), below = objective.log_predictions(down);
    for (size_t p = 0; p < rows.size(); ++p) CHECK_THAT(rows[p][i], WithinAbs((above[p] - below[p]) / (2 * h), 1e-9));
  }
}

TEST_CASE("power_sum: points of one x are summed together, and the sum is that of the paper's formula point by point") {
  // 3 cells of 1, 4 and 40 points; residuals on both sides of delta and beyond; weights with a zero.
  std::vector<double> x, losses, weights;
  for (int i = 0; i < 45; ++i) {
    x.push_back(i == 0 ? 2.0 : i < 5 ? 8.0 : 32.0);
    losses.push_back(1.6 + 0.3 * std::sin(7.0 * i));
    weights.push_back(i % 4);
  }
  const double delta = 0.05;
  PowerSumObjective objective({x}, losses, delta);
  objective.set_weights(weights);
  CHECK(objective.num_cells() == 3);
  const PowerSum law{.log_floor = 0.2, .terms = {{0.4, 0.3}}};
  const auto naive = [&](const std::vector<double>& values) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double r = std::abs(std::log(law.at({x[i]})) - std::log(values[i]));
      sum += weights[i] * (r <= delta ? r * r / 2 : delta * (r - delta / 2));
    }
    return sum;
  };
  const auto value = [&] { return objective.evaluate(objective.to_coordinates(law), Curvature::exact).value; };
  CHECK_THAT(value(), WithinAbs(naive(losses), 1e-13));  // rounding of 45 terms of .01
  for (size_t i = 0; i < losses.size(); ++i) losses[i] = 1.7 + 0.2 * std::cos(5.0 * static_cast<double>(i));
  std::vector<double> logs;
  for (const double loss : losses) logs.push_back(std::log(loss));
  objective.set_log_losses(logs);
  CHECK_THAT(value(), WithinAbs(naive(losses), 1e-13));
}
