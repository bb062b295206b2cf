#include <ATen/ops/log.h>
#include <ATen/ops/softplus.h>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("state_space: it is gated_linear with one gate for all key dimensions") {
  const Geometry geometry{.num_heads = 2, .num_kv_heads = 2, .head_dim = 4, .value_dim = 3, .context = 70};
  const Case test{.variant = "state_space", .geometry = geometry};
  auto attention = test.build();
  auto parameters = attention->named_parameters();
  const torch::NoGradGuard guard;
  parameters["skip"].zero_();
  auto in = test.inputs(70);
  in.gates["step"] = torch::randn({2, 2, 70, 1}, torch::kFloat64);
  const auto step = at::softplus(in.gates["step"] + parameters["step_bias"].view({-1, 1, 1}));
  const auto decay = (-parameters["log_rate"].view({-1, 1, 1}).exp() * step).exp();
  Inputs scalar{.query = in.query * 2, .key = in.key, .value = in.value * step};  // 2: gated_linear's sqrt(D)
  scalar.gates["decay"] = torch::log(decay / (1 - decay)).expand({-1, -1, -1, 4});
  const auto other =
      made("gated_linear", {{"gate_normaliser", 1.0}, {"output_norm", false}, {"output_gate", false}}, geometry);
  CHECK(largest_difference(attention->forward(in), other->forward(scalar)) < double_rounding);
}
