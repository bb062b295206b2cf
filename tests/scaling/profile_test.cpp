#include "scaling/profile.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "scaling/parametric.h"
#include "scaling/statistics.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;

namespace {

/// A power law over groups of 1, 3, 3, 1 points at ln x = 0, 1, 2, 3, whose ln L have the means 0, -1, -1, -2.
/// @param scatter  of ln L between the points of a group of three
LawProfile of_four_groups(double scatter) {
  std::vector<double> x, losses;
  std::vector<int> group;
  const double logs[] = {0, -1, -1, -2};
  const int counts[] = {1, 3, 3, 1};
  for (int g = 0; g < 4; ++g)
    for (int i = 0; i < counts[g]; ++i) {
      x.push_back(std::exp(g));
      losses.push_back(std::exp(logs[g] + (counts[g] == 3 ? scatter * (i - 1) : 0.0)));
      group.push_back(g);
    }
  return LawProfile({x}, losses, group, 0.0, {.log_floor = 0, .terms = {{0, 0.5}}});
}

}  // namespace

TEST_CASE("profile: without a floor it is the t-interval of a straight line's slope, by hand") {
  // ln L at ln x = 0, 1, 2, 3 is 0, -1, -1, -2: slope -.6, residuals .1, -.3, .3, -.1: squares .2, two degrees of
  // freedom, Sxx = 5; standard error sqrt(.1 / 5), t(2) = 4.302653.
  std::vector<double> x, losses;
  const double logs[] = {0, -1, -1, -2};
  for (int i = 0; i < 4; ++i) {
    x.push_back(std::exp(i));
    losses.push_back(std::exp(logs[i]));
  }
  const LawProfile profile({x}, losses, {0, 1, 2, 3}, 0.0, {.log_floor = 0, .terms = {{0, 0.5}}});
  CHECK_FALSE(profile.interval([](const PowerSum& law) { return law.log_floor; }));  // it is fixed
  const auto slope = profile.interval([](const PowerSum& law) { return law.terms[0].exponent; });
  REQUIRE(slope);
  const double half = 4.302652729911275 * std::sqrt(0.1 / 5);
  CHECK_THAT(slope->low, WithinAbs(0.6 - half, 1e-8));
  CHECK_THAT(slope->high, WithinAbs(0.6 + half, 1e-8));
  // And of the line's height at ln x = 4: -1 - .6 * 2.5, lever 1/4 + 2.5^2 / 5 = 1.5 (a quantity of both parameters).
  const auto height = profile.interval([](const PowerSum& law) { return std::log(law.at({std::exp(4)})); });
  REQUIRE(height);
  CHECK_THAT(height->low, WithinAbs(-2.5 - 4.302652729911275 * std::sqrt(0.1 * 1.5), 1e-8));
  CHECK_THAT(height->high, WithinAbs(-2.5 + 4.302652729911275 * std::sqrt(0.1 * 1.5), 1e-8));
}

TEST_CASE("profile: an end that no walk arrives at is open where that is asked for, and not both") {
  const auto profile = of_four_groups(0);
  const double half = 4.302652729911275 * std::sqrt(0.25 / 6);  // as in the next case: 0.5 - half to 0.5 + half
  const auto slope_within = [](double low, double high) {
    return [=](const PowerSum& law) {
      const double slope = law.terms[0].exponent;
      return slope > low && slope < high ? slope : std::nan("");
    };
  };
  const auto lost_above = slope_within(-10, 0.5 + half / 2), lost_below = slope_within(0.5 - half / 2, 10);
  CHECK_FALSE(profile.interval(lost_above, -5, 5));
  CHECK_FALSE(profile.interval(lost_above, -5, std::nullopt, true));
  const auto above = profile.interval(lost_above, -5, 5, true), below = profile.interval(lost_below, -5, 5, true);
  REQUIRE(above);
  REQUIRE(below);
  CHECK_THAT(above->low, WithinAbs(0.5 - half, 1e-8));
  CHECK(above->high == 5);
  CHECK(below->low == -5);
  CHECK_THAT(below->high, WithinAbs(0.5 + half, 1e-8));
  CHECK_FALSE(profile.interval(slope_within(0.5 - half / 2, 0.5 + half / 2), -5, 5, true));
}

TEST_CASE("profile: groups count by their points, as a weighted straight line by hand") {
  // Means 0, -1, -1, -2 at ln x = 0, 1, 2, 3 with weights 1, 3, 3, 1: mean ln x 1.5, Sxx = 2 * 2.25 + 6 * .25 = 6,
  // Sxy = -3, slope -.5, residuals .25, -.25, .25, -.25: weighted squares 8 / 16 = .5, two degrees of freedom. Even
  // weights would give -.6.
  const auto profile = of_four_groups(0);
  CHECK(profile.freedom() == 2);
  const auto slope = profile.interval([](const PowerSum& law) { return law.terms[0].exponent; });
  REQUIRE(slope);
  const double half = 4.302652729911275 * std::sqrt(0.25 / 6);
  CHECK_THAT(slope->low, WithinAbs(0.5 - half, 1e-8));
  CHECK_THAT(slope->high, WithinAbs(0.5 + half, 1e-8));
}

TEST_CASE("profile: a nonlinear interval ends where the best law with the quantity held is rejected, by brute force") {
  // L = E + A x^-alpha at 8 points; E held on a fine grid, A by linear least squares in ln L over a grid of alpha.
  const double x[] = {1, 2, 4, 8, 16, 32, 64, 128};
  const double bumps[] = {.003, -.002, .001, -.004, .002, .003, -.001, -.002};
  std::vector<double> xs, losses;
  for (int i = 0; i < 8; ++i) {
    xs.push_back(x[i]);
    losses.push_back((1.5 + std::pow(x[i], -0.4)) * std::exp(bumps[i]));
  }
  const PowerSum start{.log_floor = std::log(1.5), .terms = {{0, 0.4}}};
  const LawProfile profile({xs}, losses, {0, 1, 2, 3, 4, 5, 6, 7}, std::nullopt, start);
  const auto found = profile.interval([](const PowerSum& law) { return law.log_floor; });
  REQUIRE(found);
  const auto squares_with = [&](double E) {
    // Fixed-floor fits are an independent path of the library: four lines of PowerSumObjective without a floor to find.
    PowerSumObjective objective({xs}, losses, 1e6, E);
    return minimise(objective, objective.to_coordinates(start)).objective;
  };
  PowerSumObjective whole({xs}, losses, 1e6);
  const double lowest = minimise(whole, whole.to_coordinates(start)).objective;
  // t(.975, 5) = 2.570582 (scipy.stats.t.ppf(.975, 5)).
  const double limit = lowest * (1 + 2.5705818366147395 * 2.5705818366147395 / 5);
  CHECK_THAT(squares_with(std::exp(found->low)) / limit, WithinAbs(1, 1e-6));
  CHECK_THAT(squares_with(std::exp(found->high)) / limit, WithinAbs(1, 1e-6));
  CHECK(found->low < std::log(1.5));
  CHECK(found->high > std::log(1.5));
  // Skew, as a floor's interval is: longer below.
  const double centre = profile.law().log_floor;
  CHECK(centre - found->low > found->high - centre);
}

TEST_CASE("profile: groups that are not more than parameters bear no interval") {
  const LawProfile profile({{1, 2, 4}}, {9, 5, 3}, {0, 1, 2}, std::nullopt, {.log_floor = 0, .terms = {{2, 1}}});
  CHECK(profile.freedom() == 0);
  CHECK_FALSE(profile.interval([](const PowerSum& law) { return law.terms[0].exponent; }));
}

TEST_CASE("profile: groups that miss the law by far more than their points scatter count alike, however many points") {
  // The means of the case above, but for points that scatter by 1e-4 about them: sigma^2 / m is nothing beside tau^2,
  // so that the slope is that of even weights, -.6, with the interval of the first case.
  const auto profile = of_four_groups(1e-4);
  const auto slope = profile.interval([](const PowerSum& law) { return law.terms[0].exponent; });
  REQUIRE(slope);
  const double half = 4.302652729911275 * std::sqrt(0.1 / 5);
  CHECK_THAT(slope->low, WithinAbs(0.6 - half, 1e-5));
  CHECK_THAT(slope->high, WithinAbs(0.6 + half, 1e-5));
}
