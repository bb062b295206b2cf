#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

/// Two positions of a stream one number wide, with the given parameters.
std::vector<double> synthesised(Json options, bool causal, std::vector<double> stream,
                                const std::map<std::string, std::vector<double>>& parameters) {
  const Geometry geometry{.head_dim = 1, .value_dim = 1, .context = 2, .causal = causal, .model_dim = 1};
  const auto attention = variant_named("synthesizer").make(options, geometry);
  attention->to(torch::kFloat64);
  const torch::NoGradGuard guard;
  for (auto& item : attention->named_parameters())
    item.value().copy_(torch::tensor(parameters.at(item.key()), torch::kFloat64).view(item.value().sizes()));
  const auto y = attention->forward({.hidden = torch::tensor(stream, torch::kFloat64).view({1, 1, 2, 1})}).flatten();
  return {y[0].item<double>(), y[1].item<double>()};
}

}  // namespace

TEST_CASE("synthesizer: random weights of rank 1 worked by hand") {
  // R = (0, ln 2), S = (0, 1): row 0 of the logits is (0, 0), row 1 is (0, ln 2), whose softmax is (1/3, 2/3).
  // x = v = (3, 9). Bidirectional: y_0 = 6, y_1 = 1 + 6 = 7. Causal: y_0 = 3, y_1 = 7.
  const std::map<std::string, std::vector<double>> parameters = {
      {"value.weight", {1}}, {"output.weight", {1}}, {"rows", {0, std::log(2.0)}}, {"places", {0, 1}}};
  const auto both = synthesised({{"rank", 1}}, false, {3, 9}, parameters);
  CHECK(both[0] == Catch::Approx(6));
  CHECK(both[1] == Catch::Approx(7));
  const auto causal = synthesised({{"rank", 1}}, true, {3, 9}, parameters);
  CHECK(causal[0] == Catch::Approx(3));
  CHECK(causal[1] == Catch::Approx(7));
}

TEST_CASE("synthesizer: the dense map worked by hand") {
  // x = (ln 2, -5), U = 1, b = 0, w = (0, 1), c = (0, 0), W_v = W_o = 1. relu gives (ln 2, 0), so the rows of weights
  // are (1/3, 2/3) and (1/2, 1/2): y_0 = (ln 2 - 10) / 3, y_1 = (ln 2 - 5) / 2. With c = (0, ln 3) row 1 becomes
  // (1/4, 3/4): y_1 = (ln 2 - 15) / 4.
  const double x = std::log(2.0);
  std::map<std::string, std::vector<double>> parameters = {{"value.weight", {1}},  {"output.weight", {1}},
                                                           {"hidden.weight", {1}}, {"hidden.bias", {0}},
                                                           {"places", {0, 1}},     {"place_bias", {0, 0}}};
  const auto y = synthesised({{"logits", "dense"}}, false, {x, -5}, parameters);
  CHECK(y[0] == Catch::Approx((x - 10) / 3));
  CHECK(y[1] == Catch::Approx((x - 5) / 2));
  parameters["place_bias"] = {0, std::log(3.0)};
  CHECK(synthesised({{"logits", "dense"}}, false, {x, -5}, parameters)[1] == Catch::Approx((x - 15) / 4));
}
