// What the conformance run cannot know about forgetting attention: decay by hand, and long running sums.

#include <cmath>

#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"

using namespace attnscale;
using Catch::Approx;

TEST_CASE("forgetting: equal scores and a gate of one half make weights that halve with distance") {
  // Gate 0: f = 1/2. Query 2 weighs keys 0, 1, 2 as 1/4, 1/2, 1: y = (4 * 1/4 + 2 * 1/2 + 7) / (7/4) = 36 / 7.
  const auto zeros = torch::zeros({1, 1, 3, 1}, torch::kFloat64);
  const auto value = torch::tensor({4.0, 2.0, 7.0}, torch::kFloat64).view({1, 1, 3, 1});
  const auto output = variant_named("forgetting")
                          .make(Json::object(), {.head_dim = 1, .value_dim = 1})
                          ->forward({.query = zeros, .key = zeros, .value = value, .gates = {{"forget", zeros}}});
  CHECK(output.flatten()[2].item<double>() == Approx(36.0 / 7).epsilon(1e-14));
}

TEST_CASE("forgetting: neighbours keep their weights at the end of a long sequence in float32") {
  // The running sum reaches 4000 ln(f) = -40000, where float32 numbers lie 0.004 apart; the last two weights depend on
  // ln f of one step, -10 ... -10.0001: without care they would be off by 0.4 %.
  constexpr int64_t positions = 4000;
  const auto at = torch::linspace(-10, -9.99, positions, torch::kFloat64).view({1, 1, positions, 1});
  const auto zeros = torch::zeros({1, 1, positions, 1}, torch::kFloat64);
  const auto value = torch::zeros({1, 1, positions, 1}, torch::kFloat64);
  value.select(2, positions - 2).fill_(1);
  const auto attention =
      variant_named("forgetting").make(Json::object(), {.head_dim = 1, .value_dim = 1, .context = positions});
  const auto last = [&](torch::Dtype type) {
    const auto output = attention->forward(
        {.query = zeros.to(type), .key = zeros.to(type), .value = value.to(type), .gates = {{"forget", at.to(type)}}});
    return output.flatten()[positions - 1].item<double>();
  };
  const double exact = 1 / (1 + std::exp(9.99) + 1);  // f = 1 / (1 + e^9.99); weights f / (1 + f + f^2 ..), far 1e-9
  CHECK(last(torch::kFloat64) == Approx(exact).epsilon(1e-8));
  CHECK(last(torch::kFloat32) == Approx(exact).epsilon(3e-6));  // roundings of -9.99 and of the exponential
}
