#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "seen_keys.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("top_k: the two largest of four logits share the weight, by hand") {
  // D = 1, q = 1, k = (0, 3, 1, 2): logits 3 and 2 stay. Weights 1 / (1 + e^-1) and 1 / (1 + e) on values 10 and 20.
  const auto column = [](std::vector<double> x) {
    return torch::tensor(x, torch::kFloat64).reshape({1, 1, static_cast<int64_t>(x.size()), 1});
  };
  const Geometry geometry{.head_dim = 1, .value_dim = 1, .context = 4, .causal = false};
  const Inputs in{.query = column({1, 1, 1, 1}), .key = column({0, 3, 1, 2}), .value = column({1, 10, 5, 20})};
  const auto y = variant_named("top_k").make({{"k", 2}}, geometry)->forward(in).flatten();
  const double expected = 10 / (1 + std::exp(-1.0)) + 20 / (1 + std::exp(1.0));
  for (int64_t t = 0; t < 4; ++t) CHECK(std::abs(y[t].item<double>() - expected) < 1e-12);  // a few roundings
}

TEST_CASE("top_k: keys whose logits tie with the k-th all stay") {
  const auto seen = seen_keys("top_k", {{"k", 2}}, false, 5);  // all logits are zero
  CHECK(seen[0] == Seen{0, 1, 2, 3, 4});
}

TEST_CASE("top_k: a key that was not kept gets no gradient") {
  const Case test{.variant = "top_k", .options = {{"k", 3}}, .geometry = {.head_dim = 4, .value_dim = 4}};
  const auto in = test.inputs(20);
  const auto output = test.build()->forward(in).select(2, 19);
  const auto slope = torch::autograd::grad({output.square().sum()}, {in.value})[0];
  CHECK(slope.abs().amax(3).gt(0).sum(2).eq(3).all().item<bool>());
}
