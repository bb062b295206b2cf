#include "scaling/lack_of_fit.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

TEST_CASE("lack_of_fit: F and p of a straight line in logarithms with three cells of two seeds, by hand") {
  // ln L at ln x = 0, 1, 2: (.1, -.1), (-.5, -.7), (-2.1, -1.9): means 0, -.6, -2; the line through them has slope -1
  // and middle -2.6/3, residuals -.4/3, .8/3, -.4/3, so that between = 2 * .96/9 = .213333 with 1 degree of freedom;
  // within = 6 * .01 = .06 with 3. F = .213333 / .02 = 10.6667; p = scipy.stats.f.sf(32/3, 1, 3) = 0.0469.
  std::vector<double> x, losses;
  const double logs[] = {0.1, -0.1, -0.5, -0.7, -2.1, -1.9};
  for (int i = 0; i < 6; ++i) {
    x.push_back(std::exp(i / 2));
    losses.push_back(std::exp(logs[i]));
  }
  const auto test = lack_of_fit({x}, losses, {0, 0, 1, 1, 2, 2}, 0.0, {.log_floor = 0, .terms = {{0, 0.8}}});
  REQUIRE(test);
  CHECK(test->fit_freedom == 1);
  CHECK(test->seed_freedom == 3);
  CHECK_THAT(test->F, WithinRel(32.0 / 3, 1e-9));
  // An F with 1 degree is a t squared; t(3) in closed form: p = 1 - 2/pi (atan(u) + u / (1 + u^2)), u = t / sqrt 3.
  const double u = std::sqrt(32.0 / 9);
  CHECK_THAT(test->p, WithinAbs(1 - 2 / 3.141592653589793 * (std::atan(u) + u / (1 + u * u)), 1e-9));
  CHECK_THAT(test->seed_noise, WithinAbs(std::sqrt(0.02), 1e-12));
}

TEST_CASE("lack_of_fit: no test without seeds, without spare cells, or where seeds agree exactly") {
  const PowerSum start{.log_floor = 0, .terms = {{0, 0.8}}};
  CHECK_FALSE(lack_of_fit({{1, 2, 4}}, {3, 2, 1.5}, {0, 1, 2}, 0.0, start));
  CHECK_FALSE(lack_of_fit({{1, 1, 4}}, {3, 3.1, 1.5}, {0, 0, 1}, 0.0, start));
  CHECK_FALSE(lack_of_fit({{1, 1, 2, 2, 4, 4}}, {3, 3, 2, 2, 1.5, 1.5}, {0, 0, 1, 1, 2, 2}, 0.0, start));
}
