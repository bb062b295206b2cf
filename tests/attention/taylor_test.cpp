#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case taylor_case() {
  return {.variant = "taylor",
          .geometry = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 4, .context = 32}};
}

}  // namespace

TEST_CASE("taylor: for small logits it is softmax up to the third order") {
  // exp(s) - (1 + s + s^2 / 2) = s^3 / 6: half the logits, an eighth of the difference, up to the next order.
  const auto test = taylor_case();
  const auto attention = test.build();
  const torch::NoGradGuard guard;
  const auto difference = [&](double scale) {
    auto in = test.inputs(32);
    in.query = in.query * scale;
    const auto exact = causal_softmax(torch::matmul(in.query, in.key.mT()) / std::sqrt(8.0), in.value);
    return (attention->forward(in) - exact).norm().item<double>();
  };
  const double ratio = difference(0.4) / difference(0.2);
  CHECK(ratio > 7);
  CHECK(ratio < 9);
}
