#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

/// k = (0, 2), v = (3, 5) with D = E = 1
std::vector<double> packed(bool causal, std::vector<double> packing, std::vector<double> query) {
  const auto column = [](std::vector<double> x) { return torch::tensor(x, torch::kFloat64).view({1, 1, 2, 1}); };
  const Geometry geometry{.head_dim = 1, .value_dim = 1, .context = 2, .causal = causal};
  const auto attention = variant_named("luna").make({{"packed_length", std::ssize(packing)}}, geometry);
  attention->to(torch::kFloat64);
  const torch::NoGradGuard guard;
  attention->parameters()[0].copy_(torch::tensor(packing, torch::kFloat64).view({1, -1, 1}));
  const auto y = attention->forward({.query = column(query), .key = column({0, 2}), .value = column({3, 5})}).flatten();
  return {y[0].item<double>(), y[1].item<double>()};
}

}  // namespace

TEST_CASE("luna: the bidirectional form worked by hand") {
  // P = 0 packs means: one packed position gives v's mean 4 everywhere. P = (0, ln(3) / 2) packs with weights
  // (1/2, 1/2) and (1/4, 3/4): K' = (1, 3/2), V' = (4, 9/2). q_1 = 2 ln 2 makes logits of difference ln 2, hence
  // weights (1/3, 2/3): y_1 = 4/3 + 3 = 13/3; q_0 = 0 gives 17/4.
  CHECK(packed(false, {0}, {1, -1})[0] == Catch::Approx(4));
  const auto y = packed(false, {0, std::log(3.0) / 2}, {0, 2 * std::log(2.0)});
  CHECK(y[0] == Catch::Approx(17.0 / 4));
  CHECK(y[1] == Catch::Approx(13.0 / 3));
}

TEST_CASE("luna: the causal form worked by hand") {
  // P = (0, 1): a_0 = (1, 1), a_1 = (1, 3), as elu(x) + 1 = x + 1 for x >= 0.
  // t = 0: logits are 0, weights (1/2, 1/2), y_0 = 3 a_0 u = 3.
  // t = 1: sum k a / 2 = (1, 3), q_1 = ln(2) / 2 makes weights (1/3, 2/3); sum a v / 2 = (4, 9): y_1 = 4/3 + 6.
  const auto y = packed(true, {0, 1}, {1, std::log(2.0) / 2});
  CHECK(y[0] == Catch::Approx(3));
  CHECK(y[1] == Catch::Approx(22.0 / 3));
}
