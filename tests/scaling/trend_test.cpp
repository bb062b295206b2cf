#include "scaling/trend.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("loss_trends: each variable is judged by itself, with the others held") {
  // ln L falls with N and does not depend on D; on this grid the plane is exact.
  std::vector<double> N, D, L;
  for (const double n : {1e3, 1e4, 1e5})
    for (const double d : {1e5, 1e6, 1e7}) {
      N.push_back(n);
      D.push_back(d);
      L.push_back(10 * std::pow(n, -0.1));
    }
  const auto trends = loss_trends({N, D}, L, {"N", "D"});
  CHECK(trends[0].falls);
  CHECK(trends[0].reason.empty());
  CHECK_FALSE(trends[1].falls);
  CHECK_THAT(trends[1].reason, ContainsSubstring("D"));
}

TEST_CASE("loss_trends: a curve that flattens falls, however few its points") {
  CHECK(loss_trends({{1, 10, 100}}, {3, 2, 1.99}, {"N"})[0].falls);
  CHECK_FALSE(loss_trends({{1, 10, 100}}, {3, 1.98, 1.99}, {"N"})[0].falls);
}

TEST_CASE("loss_trends: a rise at the end is told apart from seeds by their scatter") {
  const std::vector<double> x = {1, 1, 4, 4, 16, 16, 64, 64};
  const std::vector<double> rising = {3, 3.01, 2.5, 2.51, 2.2, 2.21, 2.3, 2.31};
  CHECK_THAT(loss_trends({x}, rising, {"N"})[0].warning, ContainsSubstring("rises again beyond N = 16"));
  const std::vector<double> noisy = {3, 3.1, 2.5, 2.6, 2.2, 2.3, 2.21, 2.32};
  CHECK(loss_trends({x}, noisy, {"N"})[0].warning.empty());
}
