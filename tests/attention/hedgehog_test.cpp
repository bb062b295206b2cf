#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case hedgehog_case() {
  return {.variant = "hedgehog",
          .geometry = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 4, .context = 32}};
}

}  // namespace

TEST_CASE("hedgehog: a map of zeros makes every weight equal, and the output the mean of the values") {
  const auto test = hedgehog_case();
  const auto attention = test.build();
  const torch::NoGradGuard guard;
  for (auto& parameter : attention->parameters()) parameter.zero_();
  const auto in = test.inputs(32);
  const auto count = torch::arange(1, 33, torch::kFloat64).unsqueeze(-1);
  // Each weight is 2 / D = 0.25; the normaliser's 1e-6 moves a mean of size 1 by at most 4e-6.
  CHECK(largest_difference(attention->forward(in), in.value.cumsum(2) / count) < 2e-5);
}
