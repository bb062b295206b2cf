// What the conformance run cannot know about infini-attention: two segments by hand.

#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"

using namespace attnscale;
using Catch::Approx;

TEST_CASE("infini: three segments of one position, by hand") {
  // D = E = 1, all numbers positive, so phi(x) = x + 1; beta 0 weighs memory and segment alike. A segment of one
  // position gives its own value. phi(k) = (1, 3), v = (2, 6), and any q, since it cancels in one dimension.
  //   m_0 = 0, m_1 = M / z = 2 / 1 = 2, m_2 = (1*2 + 3*6) / (1 + 3) = 5; the 1e-6 in the normaliser moves them by 1e-6.
  // With the delta rule position 1 writes 3 * (6 - 2): m_2 = (2 + 12) / 4 = 3.5.
  const auto column = [](std::vector<double> x) { return torch::tensor(x, torch::kFloat64).view({1, 1, 3, 1}); };
  const Inputs inputs{.query = column({0, 0, 0}), .key = column({0, 2, 1}), .value = column({2, 6, 10})};
  for (const bool delta : {false, true}) {
    const auto attention =
        variant_named("infini").make({{"segment", 1}, {"delta_rule", delta}}, {.head_dim = 1, .value_dim = 1});
    attention->to(torch::kFloat64);
    const auto output = attention->forward(inputs).flatten();
    CHECK(output[0].item<double>() == Approx(1).margin(1e-5));
    CHECK(output[1].item<double>() == Approx((2 + 6) / 2.0).margin(1e-5));
    CHECK(output[2].item<double>() == Approx(((delta ? 3.5 : 5) + 10) / 2).margin(1e-5));
  }
}
