// What the conformance run cannot know about sigmoid attention: numbers worked out by hand.

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

}  // namespace

TEST_CASE("sigmoid: two keys, by hand: weights do not sum to one") {
  // Scores 0 and ln 3, b = 0: weights 1/2 and 3/4; y_0 = 1/2 * 8, y_1 = 1/2 * 8 + 3/4 * 4.
  const Inputs inputs{.query = one_head({1, 1}), .key = one_head({0, std::log(3.0)}), .value = one_head({8, 4})};
  const auto output =
      variant_named("sigmoid").make({{"bias", 0.0}}, {.head_dim = 1, .value_dim = 1})->forward(inputs).flatten();
  CHECK(output[0].item<double>() == Approx(4).epsilon(1e-14));
  CHECK(output[1].item<double>() == Approx(7).epsilon(1e-14));
}

TEST_CASE("sigmoid: the bias starts at minus the log of the context") {
  // Score 0: weight 1 / (1 + context).
  const Inputs inputs{.query = one_head({0}), .key = one_head({0}), .value = one_head({1})};
  for (const bool learnt : {false, true}) {
    const auto attention =
        variant_named("sigmoid").make({{"learnt_bias", learnt}}, {.head_dim = 1, .value_dim = 1, .context = 99});
    // A learnt bias is float32 until the module is converted: 6e-8 of ln 99.
    CHECK(attention->forward(inputs).item<double>() == Approx(0.01).epsilon(1e-6));
  }
}
