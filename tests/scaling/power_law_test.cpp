#include "scaling/power_law.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "support.h"

using namespace attnscale;
using Catch::Matchers::WithinRel;

TEST_CASE("power_law: three points by hand determine E, A and alpha") {
  // 1 + 8 x^-1 at 1, 2, 4: losses 9, 5, 3.
  const auto found = fit_power_law({1, 2, 4}, {9, 5, 3});
  CHECK_THAT(found.E, WithinRel(1.0, 1e-6));
  CHECK_THAT(found.A, WithinRel(8.0, 1e-6));
  CHECK_THAT(found.alpha, WithinRel(1.0, 1e-6));
  CHECK(found.starts == 150);
}

TEST_CASE("power_law: with E fixed two points are enough, and E is not moved") {
  const auto found = fit_power_law({10, 1000}, {1.5 + 1, 1.5 + 0.1}, {.fixed_E = 1.5});
  CHECK_THAT(found.E, WithinRel(1.5, 1e-15));
  CHECK_THAT(found.alpha, WithinRel(0.5, 1e-6));
  CHECK_THAT(found.A, WithinRel(std::sqrt(10.0), 1e-6));
  CHECK(found.starts == 30);
}

TEST_CASE("power_law: L(N) uses the most tokens of each size and variant, L(D) the largest size of each token count") {
  auto points = grid_points(Surface{}, {1e3, 1e4}, {1e5, 1e6}, 1, [](int) { return 0.0; });
  points[3].D = 5e5;  // the larger size has 1e5 and 5e5
  for (auto& point : points) point.variant = "softmax";
  auto other = points[0];
  other.variant = "linear";
  points.push_back(other);
  const auto sizes = largest_tokens_of_each_size(points);
  REQUIRE(sizes.size() == 3);
  CHECK(sizes[0].D == 1e6);
  CHECK(sizes[1].D == 5e5);
  CHECK(sizes[2].variant == "linear");
  const auto tokens = largest_size_of_each_tokens(points);
  REQUIRE(tokens.size() == 4);  // softmax at 1e5, 1e6, 5e5 and linear at 1e5
  CHECK(tokens[1].N == 1e4);
}
