#include "scaling/model_comparison.h"

#include <cmath>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "scaling/fit.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;

namespace {
std::vector<Point> with_noise(const Surface& surface) {
  std::mt19937_64 random(9);
  std::normal_distribution<double> normal(0, 0.003);
  return grid_points(surface, {1e3, 4e3, 1.6e4, 6.4e4, 2.56e5}, {1e5, 4e5, 1.6e6, 6.4e6}, 2,
                     [&](int) { return normal(random); });
}
}  // namespace

TEST_CASE("model_comparison: the law that made the points has the lowest BIC and extrapolates best") {
  SECTION("two terms above a floor") {
    const auto laws =
        fit_report(with_noise({.E = 1.7, .A = 12.6, .B = 400, .alpha = 0.5, .beta = 0.6}), {.replicates = 0})["laws"];
    REQUIRE(laws.size() == 8);
    CHECK(laws[0]["law"] == "E + A N^-alpha + B D^-beta");
    CHECK(laws[0]["delta_BIC"] == 0);
    for (size_t i = 1; i < laws.size(); ++i) {
      CHECK(laws[i]["delta_BIC"].get<double>() > 6);
      if (laws[i].contains("held_out")) CHECK(laws[i]["held_out"].get<double>() > laws[0]["held_out"].get<double>());
    }
  }
  SECTION("no dependence on N") {
    const auto laws =
        fit_report(with_noise({.E = 1.7, .A = 0, .B = 400, .alpha = 0.5, .beta = 0.6}), {.replicates = 0})["laws"];
    CHECK(laws[0]["law"] == "E + A D^-alpha");
  }
}

TEST_CASE("model_comparison: Laplace's likelihood, AIC and BIC by hand") {
  // A x^-alpha without a floor through 1, 1/2, 1/4, 1/8 at 1, 2, 4, 8, with ln L shifted by +-.1, twice each.
  std::vector<double> x, losses;
  std::vector<int> group;
  for (int i = 0; i < 8; ++i) {
    x.push_back(std::pow(2.0, i / 2));
    losses.push_back(std::exp(i % 2 ? 0.1 : -0.1) / x.back());
    group.push_back(i);
  }
  const auto laws = compare_laws({{"A x^-alpha", {x}, false}}, losses, x, group, 1e-3);
  REQUIRE(laws.size() == 1);
  // Any law between the two rows has |residual| sum 8 * .1; ln likelihood = -8 (ln(2 * .1) + 1).
  const double expected = -8 * (std::log(0.2) + 1);
  CHECK_THAT(laws[0]["log_likelihood"].get<double>(), WithinAbs(expected, 1e-6));
  CHECK_THAT(laws[0]["AIC"].get<double>(), WithinAbs(2 * 3 - 2 * expected, 1e-5));
  CHECK_THAT(laws[0]["BIC"].get<double>(), WithinAbs(3 * std::log(8.0) - 2 * expected, 1e-5));
}
