#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("retention: two positions worked by hand") {
  // D = E = 1, gamma_0 = 31/32: y_0 = 2*3*5 = 30, y_1 = 7 (31/32 * 3*5 + 11*13) = 7 * (14.53125 + 143) = 1102.71875.
  const auto attention = made("retention", {{"output_norm", false}, {"output_gate", false}}, one_head(1, 1, 2));
  const auto y = attention->forward({.query = rows({{2}, {7}}), .key = rows({{3}, {11}}), .value = rows({{5}, {13}})});
  CHECK(y.flatten()[0].item<double>() == Catch::Approx(30));
  CHECK(y.flatten()[1].item<double>() == Catch::Approx(1102.71875));
}

TEST_CASE("retention: padding in front changes nothing, as if it were not there") {
  const Case test{.variant = "retention",
                  .options = {{"output_gate", false}},
                  .geometry = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 3, .value_dim = 4, .context = 20}};
  const auto attention = test.build();
  const auto in = test.inputs(9);
  const auto in_front = [](const Tensor& x) { return torch::cat({torch::full_like(x.narrow(2, 0, 5), 3), x}, 2); };
  Inputs padded{.query = in_front(in.query), .key = in_front(in.key), .value = in_front(in.value)};
  padded.key_padding = torch::arange(14).ge(5).expand({2, 14});
  CHECK(largest_difference(attention->forward(padded).narrow(2, 5, 9), attention->forward(in)) < double_rounding);
}
