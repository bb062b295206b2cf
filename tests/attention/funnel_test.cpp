// What the conformance run cannot know about attention between pooled positions: numbers worked out by hand.

#include <cmath>

#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"

using namespace attnscale;
using Catch::Approx;

namespace {

std::vector<double> funnel_of(bool causal, bool pool_keys) {
  // Zero queries: equal weights, outputs are means.
  const auto zeros = torch::zeros({1, 1, 5, 1}, torch::kFloat64);
  const auto value = torch::tensor({1.0, 3.0, 6.0, 10.0, 20.0}, torch::kFloat64).view({1, 1, 5, 1});
  const auto output =
      variant_named("funnel")
          .make({{"pool_keys", pool_keys}}, {.head_dim = 1, .value_dim = 1, .context = 5, .causal = causal})
          ->forward({.query = zeros, .key = zeros, .value = value});
  const auto numbers = output.flatten().contiguous();
  return {numbers.data_ptr<double>(), numbers.data_ptr<double>() + 5};
}

void check_all(const std::vector<double>& found, const std::vector<double>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) CHECK(found[i] == Approx(expected[i]).epsilon(1e-14));
}

}  // namespace

TEST_CASE("funnel: five positions by hand, causal groups are shifted") {
  // Groups {0}, {1, 2}, {3, 4}: means 1, 4.5, 15; group n gives the mean of those up to n to positions 2 n, 2 n + 1.
  check_all(funnel_of(true, true), {1, 1, 2.75, 2.75, 20.5 / 3});
  // Single keys up to position 2 n: 1, (1 + 3 + 6) / 3, 40 / 5.
  check_all(funnel_of(true, false), {1, 1, 10.0 / 3, 10.0 / 3, 8});
}

TEST_CASE("funnel: five positions by hand, bidirectional groups are not") {
  // Groups {0, 1}, {2, 3}, {4}: means 2, 8, 20.
  check_all(funnel_of(false, true), {10, 10, 10, 10, 10});
  check_all(funnel_of(false, false), {8, 8, 8, 8, 8});
}
