#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("nystrom: one landmark worked by hand") {
  // D = E = 1, q = (1, 3) with mean 2, k = (0, ln(3) / 2), v = (4, 8). With one landmark both outer kernels of a
  // single column or entry are 1, and so is the inverse: y_t = softmax(2 k) v = (1/4, 3/4) (4, 8) = 7 for both t.
  const auto column = [](double a, double b) { return torch::tensor({a, b}, torch::kFloat64).view({1, 1, 2, 1}); };
  const Geometry geometry{.head_dim = 1, .value_dim = 1, .context = 2, .causal = false};
  const auto attention = variant_named("nystrom").make({{"landmarks", 1}}, geometry);
  const auto y =
      attention->forward({.query = column(1, 3), .key = column(0, std::log(3.0) / 2), .value = column(4, 8)});
  CHECK(y.flatten()[0].item<double>() == Catch::Approx(7));
  CHECK(y.flatten()[1].item<double>() == Catch::Approx(7));
}

TEST_CASE("nystrom: enough steps of the pseudo-inverse give the exact one, few do not") {
  const auto output = [](Json options) {
    const Case test{.variant = "nystrom",
                    .options = std::move(options),
                    .geometry = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8, .causal = false}};
    return test.build()->forward(test.inputs(64));
  };
  const auto exact = output({{"landmarks", 4}, {"exact_inverse", true}});
  // The smallest singular value's product with its inverse starts near its square, 1e-5 or so, grows 3.25 times a step
  // and then converges with third order: 20 steps are enough, and rounding is multiplied by the kernel's condition.
  CHECK(largest_difference(output({{"landmarks", 4}, {"pinv_iterations", 20}}), exact) < 1e-9);
  CHECK(largest_difference(output({{"landmarks", 4}, {"pinv_iterations", 2}}), exact) > 1e-3);
}

TEST_CASE("nystrom: a causal model is refused") {
  const Geometry geometry{.causal = true};
  const auto reasons = refusals(variant_named("nystrom"), Json::object(), geometry);
  REQUIRE(reasons.size() == 1);
  CHECK(reasons[0] == "nystrom has no causal form; it works in bidirectional models");
}
