#include <cmath>
#include <numbers>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "core/error.h"
#include "hand_cases.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case cosformer_case() {
  return {.variant = "cosformer",
          .geometry = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 4, .context = 32}};
}

}  // namespace

TEST_CASE("cosformer: two positions worked by hand") {
  // D = E = 1, M = 2: a distance of 1 weighs cos(pi / 4). q = k = 1, v = (1, 3): y_1 = (0.7071 * 1 + 3) / 1.7071.
  const auto attention = variant_named("cosformer").make(Json::object(), {.head_dim = 1, .value_dim = 1, .context = 2});
  const auto y = attention->forward({.query = rows({{1}, {1}}), .key = rows({{1}, {1}}), .value = rows({{1}, {3}})});
  const double near = std::cos(std::numbers::pi / 4);
  CHECK(y.flatten()[0].item<double>() == Catch::Approx(1).epsilon(2e-6));  // the normaliser's 1e-6
  CHECK(y.flatten()[1].item<double>() == Catch::Approx((near + 3) / (near + 1)).epsilon(2e-6));
}

TEST_CASE("cosformer: more positions than its weights are made for are refused") {
  const auto test = cosformer_case();
  CHECK_THROWS_AS(test.build()->forward(test.inputs(33)), ShapeError);
  CHECK(!refusals(variant_named("cosformer"), {{"reweighting_length", 31}}, test.geometry).empty());
}
