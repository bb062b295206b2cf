// What the conformance run cannot know about contextual positions: numbers worked out by hand.

#include <cmath>

#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"

using namespace attnscale;
using Catch::Approx;

namespace {

Tensor one_head(std::vector<double> numbers) {
  return torch::tensor(numbers, torch::kFloat64).view({1, 1, static_cast<int64_t>(numbers.size()), 1});
}

/// Five positions that attend with the positions 0, 1 and 2, whose vectors are 0, ln 9 and ln 729.
Tensor attended(const Tensor& key) {
  const auto attention =
      variant_named("contextual").make({{"positions", 3}}, {.head_dim = 1, .value_dim = 1, .context = 5});
  attention->to(torch::kFloat64);
  {
    const torch::NoGradGuard guard;
    attention->named_parameters()["positions"].copy_(
        torch::tensor({0.0, std::log(9.0), std::log(729.0)}, torch::kFloat64).view({3, 1}));
  }
  return attention
      ->forward({.query = one_head({1, 1, 1, 1, 1}), .key = key, .value = one_head({1, 10, 100, 1000, 10000})})
      .flatten();
}

}  // namespace

TEST_CASE("contextual: half-open gates count half a position a key, in between vectors are mixed, by hand") {
  const auto output = attended(one_head({0, 0, 0, 0, 0}));
  // Positions 1/2, 1, 3/2, 2 and 2 (of 5/2) back from the query, with weights 3, 9, 81, 729 and 729.
  CHECK(output[0].item<double>() == Approx(1).epsilon(1e-14));
  CHECK(output[1].item<double>() == Approx((9 * 1 + 3 * 10) / 12.0).epsilon(1e-14));
  CHECK(output[2].item<double>() == Approx((81 * 1 + 9 * 10 + 3 * 100) / 93.0).epsilon(1e-14));
  CHECK(output[3].item<double>() == Approx((729 * 1 + 81 * 10 + 9 * 100 + 3 * 1000) / 822.0).epsilon(1e-14));
  CHECK(output[4].item<double>() ==
        Approx((729 * 1 + 729 * 10 + 81 * 100 + 9 * 1000 + 3 * 10000) / 1551.0).epsilon(1e-14));
}

TEST_CASE("contextual: keys whose gates are shut are not counted, those whose gates are open are distances") {
  // The second key shuts its gate, and weighs next to nothing; the first is then as near as if it were not there.
  const auto shut = attended(one_head({0, -60, 0, 0, 0})), open = attended(one_head({60, 60, 60, 60, 60}));
  CHECK(shut[2].item<double>() == Approx((9 * 1 + 3 * 100) / 12.0).epsilon(1e-12));
  // Distances from 1 on: weights 9 for the query's own key, 729 for all others.
  CHECK(open[1].item<double>() == Approx((729 * 1 + 9 * 10) / 738.0).epsilon(1e-12));
  CHECK(open[2].item<double>() == Approx((729 * 1 + 729 * 10 + 9 * 100) / 1467.0).epsilon(1e-12));
}
