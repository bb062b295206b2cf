#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("gated_linear: gates that shut at once leave each position its own value, and nothing overflows") {
  // sigmoid(-1e4)^(1/16) = exp(-625): a position before is forgotten to 1e-271, in float32 to 0.
  const Case test{.variant = "gated_linear",
                  .options = {{"output_norm", false}, {"output_gate", false}},
                  .geometry = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 4, .value_dim = 3, .context = 100}};
  auto in = test.inputs(100);
  in.gates["decay"] = gate_of(-1e4, 4, in.query);
  const auto expected = (in.query * in.key).sum(-1, true) / 2 * in.value;
  CHECK(largest_difference(test.build()->forward(in), expected) < double_rounding);
}
