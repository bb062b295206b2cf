// What the conformance run cannot know about differential attention: the numbers of the paper by hand.

#include <cmath>

#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "core/error.h"

using namespace attnscale;
using Catch::Approx;

TEST_CASE("differential: two maps, by hand") {
  // Layer 2 (0-based), vectors zero: l = l0 = 0.8 - 0.6 e^-0.6. D = 2, so each half has one number and scores are
  // products. Query (1, 1), keys (0, 0) and (ln 3, 0): A1 = (1/4, 3/4), A2 = (1/2, 1/2); values (4, 0), (0, 8).
  const double l0 = 0.8 - 0.6 * std::exp(-0.6);
  const auto query = torch::ones({1, 1, 1, 2}, torch::kFloat64);
  const auto key = torch::tensor({0.0, 0.0, std::log(3.0), 0.0}, torch::kFloat64).view({1, 1, 2, 2});
  const auto value = torch::tensor({4.0, 0.0, 0.0, 8.0}, torch::kFloat64).view({1, 1, 2, 2});
  const auto attention =
      variant_named("differential").make(Json::object(), {.head_dim = 2, .value_dim = 2, .layer = 2, .depth = 4});
  attention->to(torch::kFloat64);
  const torch::NoGradGuard guard;
  for (auto& item : attention->named_parameters())
    if (item.key() != "norm_scale") item.value().zero_();
  const double first = (0.25 - l0 / 2) * 4, second = (0.75 - l0 / 2) * 8;
  const double size = std::sqrt((first * first + second * second) / 2 + 1e-5);
  const auto output = attention->forward({.query = query, .key = key, .value = value}).flatten();
  CHECK(output[0].item<double>() == Approx((1 - l0) * first / size).epsilon(1e-13));
  CHECK(output[1].item<double>() == Approx((1 - l0) * second / size).epsilon(1e-13));
}

TEST_CASE("differential: an odd head is refused, with a width that works") {
  const auto reasons = refusals(variant_named("differential"), Json::object(), {.head_dim = 7, .value_dim = 7});
  REQUIRE(reasons.size() == 1);
  CHECK(reasons[0].find("take 6 or 8") != std::string::npos);
}
