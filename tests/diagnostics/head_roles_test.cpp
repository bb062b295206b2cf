#include "diagnostics/head_roles.h"

#include <cmath>

#include <ATen/Functions.h>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

TEST_CASE("head roles: a pure induction head scores one, one that attends to all alike the mean of 1 / (t + 1)") {
  constexpr int64_t length = 8, half = 4;
  auto pure = torch::zeros({length, length}, torch::kFloat64), uniform = torch::ones({length, length}, torch::kFloat64);
  for (int64_t t = 0; t < length; ++t) pure.index_put_({t, t < half ? 0 : t - half + 1}, -2.0);  // the size counts
  const auto scores = induction_scores(at::stack({pure, uniform.tril()}));
  CHECK(scores[0] == 1);
  CHECK(scores[1] == Catch::Approx((1.0 / 5 + 1.0 / 6 + 1.0 / 7 + 1.0 / 8) / 4).epsilon(1e-12));
}

TEST_CASE(
    "head roles: overlap is 1 for one subspace, 0 for orthogonal ones, and the squared cosine of an angle between") {
  // M = 4, three heads of two numbers: the plane of the axes 0 and 1 in another basis, that of 2 and 3, and a plane
  // with axis 0 and an axis at 60 degrees from axis 1 towards axis 2.
  const double c = 0.5, s = std::sqrt(0.75);
  const auto output = torch::tensor({{1.0, 1.0, 0.0, 0.0, 1.0, 0.0},
                                     {1.0, -1.0, 0.0, 0.0, 0.0, c},
                                     {0.0, 0.0, 3.0, 0.0, 0.0, s},
                                     {0.0, 0.0, 1.0, 1.0, 0.0, 0.0}},
                                    torch::kFloat64);
  const auto overlaps = subspace_overlaps(output, 3);
  const auto expected = torch::tensor(
      {{1.0, 0.0, (1 + c * c) / 2}, {0.0, 1.0, s * s / 2}, {(1 + c * c) / 2, s * s / 2, 1.0}}, torch::kFloat64);
  CHECK(at::allclose(overlaps, expected, 0, 1e-12));
  CHECK(mean_overlap(overlaps) == Catch::Approx((0 + 0.625 + 0.375) / 3).epsilon(1e-12));
}

TEST_CASE("head roles: random heads overlap by E / M on average") {
  torch::manual_seed(1);
  CHECK(mean_overlap(subspace_overlaps(torch::randn({64, 64}), 8)) == Catch::Approx(8.0 / 64).margin(0.01));
}
