#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case sinkhorn_case(int64_t block, double temperature, int64_t iterations) {
  return {.variant = "sinkhorn",
          .options = {{"block", block}, {"temperature", temperature}, {"iterations", iterations}},
          .geometry = {.head_dim = 4, .value_dim = 4, .context = 24, .causal = false}};
}

}  // namespace

TEST_CASE("sinkhorn: without sort weights every block reads the mean of all") {
  // Sort weights are zero: every source is as likely, so the sorted block is the mean of all blocks. With keys zero, an
  // output is the mean of its block's values and of those means.
  const auto test = sinkhorn_case(6, 1, 5);
  const auto attention = test.build();
  const torch::NoGradGuard guard;
  attention->named_parameters()["sort_weight"].zero_();
  auto in = test.inputs(24);
  in.key = torch::zeros_like(in.key);
  const auto blocks = in.value.view({2, 1, 4, 6, 4});
  const auto expected = (blocks.mean(3) + blocks.mean({2, 3}).unsqueeze(2)) / 2;  // [B, 1, n, E]
  const auto output = attention->forward(in).view({2, 1, 4, 6, 4});
  CHECK(largest_difference(output, expected.unsqueeze(3).expand_as(output)) < double_rounding);
}

TEST_CASE("sinkhorn: there is no causal form") {
  const auto reasons = refusals(variant_named("sinkhorn"), Json::object(), {.causal = true});
  REQUIRE(reasons.size() == 1);
  CHECK(reasons.front().find("no causal form") != std::string::npos);
}
