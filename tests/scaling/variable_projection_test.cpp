#include "scaling/variable_projection.h"

#include <cmath>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "scaling/parametric.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

TEST_CASE("variable_projection: recovers the five parameters of a noise-free surface, alone") {
  const Surface truth;
  const auto points =
      grid_points(truth, {1e8, 4e8, 1e9, 5e9, 2e10}, {1e9, 1e10, 5e10, 4e11}, 1, [](int) { return 0.0; });
  const std::vector<std::vector<double>> x = {column(points, &Point::N), column(points, &Point::D)};
  const auto losses = column(points, &Point::L);
  const auto found = project_variables(PowerSumObjective(x, losses, 1e-3), x, losses);
  // A gradient of 1e-10 over a curvature that an exponent feels as 1e-2 or more.
  CHECK_THAT(found.law.terms[0].exponent, WithinRel(truth.alpha, 1e-6));
  CHECK_THAT(found.law.terms[1].exponent, WithinRel(truth.beta, 1e-6));
  CHECK_THAT(std::exp(found.law.log_floor), WithinRel(truth.E, 1e-6));
  CHECK(found.gradient_norm < 1e-8);
}

TEST_CASE("variable_projection: agrees with the walk in all parameters on noisy points, better conditioned by far") {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(0, 0.004);
  const Surface truth{.E = 1.7, .A = 12.6, .B = 400, .alpha = 0.5, .beta = 0.6};
  const auto points =
      grid_points(truth, {1e3, 4e3, 1.6e4, 6.4e4}, {1e5, 4e5, 1.6e6}, 3, [&](int) { return normal(random); });
  const std::vector<std::vector<double>> x = {column(points, &Point::N), column(points, &Point::D)};
  const auto losses = column(points, &Point::L);
  PowerSumObjective objective(x, losses, 1e-3);
  const auto walked = fit_law(objective, parametric_starts(true), "L");
  const auto found = project_variables(objective, x, losses);
  CHECK_THAT(found.objective, WithinAbs(walked.objective, 1e-10));
  CHECK_THAT(found.law.terms[1].exponent, WithinAbs(walked.law.terms[1].exponent, 1e-5));
  CHECK(found.condition_number < 100);
  CHECK(condition_number(objective, walked.optimum.at) > 1e4);
}

TEST_CASE("variable_projection: a known floor is kept, and one variable is enough") {
  const std::vector<std::vector<double>> x = {{10, 30, 100, 1000}};
  std::vector<double> losses;
  for (const double at : x[0]) losses.push_back(1.5 + 3 * std::pow(at, -0.5));
  const auto found = project_variables(PowerSumObjective(x, losses, 1e-3, 1.5), x, losses);
  CHECK_THAT(std::exp(found.law.log_floor), WithinRel(1.5, 1e-14));
  CHECK_THAT(found.law.terms[0].exponent, WithinRel(0.5, 1e-6));
}

TEST_CASE("condition_number: of one point's two directions is without bound, of a square design by hand") {
  // Fixed floor 0 and x = 1/e, e: the curvature in (ln A, alpha) about the centre ln x = 0 is 2 and 2, ratio 1.
  PowerSumObjective objective({{std::exp(-1.0), std::exp(1.0)}}, {1, 1}, 10, 0.0);
  const auto at = objective.to_coordinates({.log_floor = 0, .terms = {{0, 0}}});
  CHECK_THAT(condition_number(objective, at), WithinRel(1.0, 1e-12));
  PowerSumObjective single({{2.0, 2.0}}, {1, 1}, 10, 0.0);
  CHECK(std::isinf(condition_number(single, at)) == (condition_number(single, at) > 1e15));
  CHECK(condition_number(single, at) > 1e12);
}
