#include "scaling/profile.h"

#include <cmath>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "scaling/parametric.h"
#include "scaling/statistics.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;

TEST_CASE("profile: without a floor it is the t-interval of a straight line's slope, by hand") {
  // ln L at ln x = 0, 1, 2, 3 is 0, -1, -1, -2: slope -.6, residuals .1, -.3, .3, -.1: squares .2, two degrees of
  // freedom, Sxx = 5; standard error sqrt(.1 / 5), t(2) = 4.302653.
  std::vector<double> x, losses;
  const double logs[] = {0, -1, -1, -2};
  for (int i = 0; i < 4; ++i) {
    x.push_back(std::exp(i));
    losses.push_back(std::exp(logs[i]));
  }
  const auto intervals =
      profile_intervals({x}, losses, {0, 1, 2, 3}, 0.0, {.log_floor = 0, .terms = {{0, 0.5}}}, {"E", "alpha"});
  CHECK_FALSE(intervals.contains("E"));
  const double half = 4.302652729911275 * std::sqrt(0.1 / 5);
  CHECK_THAT(intervals["alpha"][0].get<double>(), WithinAbs(0.6 - half, 1e-6));
  CHECK_THAT(intervals["alpha"][1].get<double>(), WithinAbs(0.6 + half, 1e-6));
}

// With a true coverage of 95 %, fewer than 88 of 100 happen once in 700 draws (binomial).
TEST_CASE("profile: nominal 95 % intervals cover the truth of 100 simulated sweeps") {
  const Surface truth{
      .E = 1.7, .A = 0.4 * std::pow(1e3, 0.5), .B = 0.4 * std::pow(1e5, 0.6), .alpha = 0.5, .beta = 0.6};
  const PowerSum start{.log_floor = std::log(truth.E),
                       .terms = {{std::log(truth.A), truth.alpha}, {std::log(truth.B), truth.beta}}};
  int E = 0, alpha = 0, beta = 0;
  for (int sweep = 0; sweep < 100; ++sweep) {
    std::mt19937_64 random(3000 + sweep);
    std::normal_distribution<double> normal(0, 0.004);
    const auto points =
        grid_points(truth, {1e3, 4e3, 1.6e4, 6.4e4}, {1e5, 4e5, 1.6e6}, 3, [&](int) { return normal(random); });
    const auto intervals =
        profile_intervals({column(points, &Point::N), column(points, &Point::D)}, column(points, &Point::L),
                          independent_groups(points), std::nullopt, start, {"E", "alpha", "beta"});
    const auto holds = [&](const char* name, double value) {
      return !intervals.contains(name) || (intervals[name][0] <= value && value <= intervals[name][1]);
    };
    E += holds("E", truth.E);
    alpha += holds("alpha", truth.alpha);
    beta += holds("beta", truth.beta);
  }
  INFO(E << ", " << alpha << ", " << beta << " of 100");
  for (const int count : {E, alpha, beta}) CHECK(count >= 88);
}

TEST_CASE("profile: groups that are not more than parameters bear no interval") {
  CHECK(profile_intervals({{1, 2, 4}}, {9, 5, 3}, {0, 1, 2}, std::nullopt, {.log_floor = 0, .terms = {{2, 1}}},
                          {"E", "alpha"})
            .empty());
}
