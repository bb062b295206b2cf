#include "model/norm.h"

#include <catch2/catch_test_macros.hpp>

#include "model/largest.h"

using namespace attnscale;

namespace {

// float64 against a formula of under ten operations: a few hundred units in the last place.
constexpr double norm_tolerance = 1e-13;

Norm random_norm(const ModelOptions& options) {
  Norm norm(options);
  const torch::NoGradGuard guard;
  norm.to(torch::kFloat64);
  for (auto& parameter : norm.parameters()) parameter.normal_();
  return norm;
}

}  // namespace

TEST_CASE("norm: LayerNorm removes the mean and divides by the root of the biased variance") {
  torch::manual_seed(1);
  const auto norm = random_norm({.model_dim = 7, .norm_epsilon = 0.1});
  const auto x = torch::randn({2, 3, 7}, torch::kFloat64);
  const auto centred = x - x.mean(-1, true);
  const auto variance = (centred * centred).sum(-1, true) / 7;
  const auto expected =
      centred / (variance + 0.1).sqrt() * norm.named_parameters()["weight"] + norm.named_parameters()["bias"];
  CHECK(largest(norm.forward(x) - expected) < norm_tolerance);
}

TEST_CASE("norm: RMSNorm divides by the root mean square and keeps the mean") {
  torch::manual_seed(2);
  const auto norm = random_norm({.model_dim = 7, .norm = "rms_norm", .norm_epsilon = 0.1});
  const auto x = torch::randn({2, 3, 7}, torch::kFloat64) + 1;
  const auto expected = x / ((x * x).mean(-1, true) + 0.1).sqrt() * norm.named_parameters()["weight"];
  CHECK(largest(norm.forward(x) - expected) < norm_tolerance);
}

TEST_CASE("norm: dynamic tanh is weight tanh(alpha x) + bias, each number by itself, and so are its gradients") {
  torch::manual_seed(3);
  const auto norm = random_norm({.model_dim = 7, .norm = "dynamic_tanh"});
  const auto named = norm.named_parameters();
  const auto x = torch::randn({2, 3, 7}, torch::kFloat64).requires_grad_();
  const auto y = norm.forward(x);
  const double alpha = named["alpha"].item<double>();
  const auto u = (alpha * x.detach()).tanh();
  CHECK(largest(y - (u * named["weight"] + named["bias"])) < norm_tolerance);
  y.sum().backward();
  // d tanh = 1 - tanh^2
  const auto slope = (1 - u * u) * named["weight"].detach();
  CHECK(largest(x.grad() - alpha * slope) < norm_tolerance);
  CHECK(largest(named["alpha"].grad() - (x.detach() * slope).sum()) < norm_tolerance);
  CHECK(largest(named["weight"].grad() - u.sum({0, 1})) < norm_tolerance);
}

TEST_CASE("norm: none gives what it gets") {
  const auto x = torch::randn({2, 7});
  const Norm none({.model_dim = 7, .norm = "none"});
  CHECK(none.parameters().empty());
  CHECK(at::equal(none.forward(x), x));
}

TEST_CASE("norm: only LayerNorm in a model with biases has one") {
  CHECK(Norm({.norm = "layer_norm", .bias = true}).parameters().size() == 2);
  CHECK(Norm({.norm = "layer_norm", .bias = false}).parameters().size() == 1);
  CHECK(Norm({.norm = "rms_norm", .bias = true}).parameters().size() == 1);
}
