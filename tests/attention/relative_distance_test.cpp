// What the conformance run cannot know about relative distances: numbers worked out by hand.

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

/// Three positions of one head of width 1, where R_d is (sin d, cos d). @param map  of both to the head
Tensor attended(bool causal, std::vector<double> map, double content, double distance) {
  const auto attention = variant_named("relative_distance")
                             .make(Json::object(), {.head_dim = 1, .value_dim = 1, .causal = causal, .model_dim = 2});
  attention->to(torch::kFloat64);
  {
    const torch::NoGradGuard guard;
    auto parameters = attention->named_parameters();
    parameters["distance_map"].copy_(torch::tensor(map, torch::kFloat64).view({1, 2}));
    parameters["content"].fill_(content);
    parameters["distance"].fill_(distance);
  }
  return attention
      ->forward({.query = one_head({0, 0, 1}), .key = one_head({0, std::log(2.0), 0}), .value = one_head({1, 10, 100})})
      .flatten();
}

}  // namespace

TEST_CASE("relative_distance: content, distance and what each is met with, by hand") {
  const double near = std::exp(std::cos(1.0)), far = std::exp(std::cos(2.0)), own = std::exp(1.0);
  // Queries 0 with v = 1: weights exp(cos d). Query 1 with v = 1 counts distances twice, and content once.
  const auto output = attended(true, {0, 1}, 0, 1);
  CHECK(output[0].item<double>() == Approx(1).epsilon(1e-14));
  CHECK(output[1].item<double>() == Approx((near * 1 + own * 10) / (near + own)).epsilon(1e-14));
  const double weights[] = {far * far, 2 * near * near, own * own};
  CHECK(output[2].item<double>() ==
        Approx((weights[0] + weights[1] * 10 + weights[2] * 100) / (weights[0] + weights[1] + weights[2]))
            .epsilon(1e-14));
  // u = 1 and no distances: the middle key weighs 2 against 1, and for query 1 4.
  const auto by_content = attended(true, {0, 0}, 1, 0);
  CHECK(by_content[1].item<double>() == Approx((1 + 2 * 10) / 3.0).epsilon(1e-14));
  CHECK(by_content[2].item<double>() == Approx((1 + 4 * 10 + 100) / 6.0).epsilon(1e-14));
}

TEST_CASE("relative_distance: a key that comes later has the negative of its distance") {
  // The sine tells before from after: from position 1, exp(sin 1), 1 and exp(-sin 1).
  const double before = std::exp(std::sin(1.0)), after = 1 / before;
  CHECK(attended(false, {1, 0}, 0, 1)[1].item<double>() ==
        Approx((before + 10 + after * 100) / (before + 1 + after)).epsilon(1e-14));
}
