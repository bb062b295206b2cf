#include "model/feed_forward.h"

#include <cmath>
#include <numbers>

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {

// float64, dot products of 5 terms and one transcendental function.
constexpr double feed_forward_tolerance = 1e-13;

struct Case {
  FeedForward network;
  Tensor x, up, up_bias, down, down_bias;

  explicit Case(const std::string& activation, int64_t rows)
      : network(resolved({.model_dim = 4, .ffn_dim = 5, .feed_forward = activation}, 9)) {
    torch::manual_seed(3);
    const torch::NoGradGuard guard;
    network.to(torch::kFloat64);
    for (auto& parameter : network.parameters()) parameter.normal_();
    const auto named = network.named_parameters();
    const std::string first = is_gated(activation) ? "gate_up" : "up";
    up = named[first + ".weight"].detach();
    up_bias = named[first + ".bias"].detach();
    down = named["down.weight"].detach();
    down_bias = named["down.bias"].detach();
    REQUIRE(up.sizes() == at::IntArrayRef({rows, 4}));
    x = torch::randn({3, 4}, torch::kFloat64);
  }
  Tensor hidden() const { return at::matmul(x, up.t()) + up_bias; }
  double error(const Tensor& activated) const {
    return (network.forward(x) - at::matmul(activated, down.t()) - down_bias).abs().max().item<double>();
  }
};

}  // namespace

TEST_CASE("feed-forward: GELU is x times the normal distribution function") {
  const Case c("gelu", 5);
  const auto h = c.hidden();
  CHECK(c.error(h * 0.5 * (1 + at::erf(h / std::numbers::sqrt2))) < feed_forward_tolerance);
}

TEST_CASE("feed-forward: the tanh form of GELU is the one of GPT-2") {
  const Case c("gelu_tanh", 5);
  const auto h = c.hidden();
  const auto inner = std::sqrt(2 / std::numbers::pi) * (h + 0.044715 * h * h * h);
  CHECK(c.error(0.5 * h * (1 + inner.tanh())) < feed_forward_tolerance);
  // and not the exact one, from which it differs by up to 5e-4
  CHECK(c.error(h * 0.5 * (1 + at::erf(h / std::numbers::sqrt2))) > 1e-6);
}

TEST_CASE("feed-forward: SwiGLU gates with the first rows of gate_up") {
  const Case c("swiglu", 10);
  const auto h = c.hidden();
  const auto gate = h.narrow(-1, 0, 5), value = h.narrow(-1, 5, 5);
  CHECK(c.error(gate / (1 + (-gate).exp()) * value) < feed_forward_tolerance);
}

TEST_CASE("feed-forward: ReLU, its square and SiLU") {
  const Case relu("relu", 5), squared("relu_squared", 5), silu("silu", 5);
  CHECK(relu.error(relu.hidden().clamp_min(0)) < feed_forward_tolerance);
  CHECK(squared.error(squared.hidden().clamp_min(0).pow(2)) < feed_forward_tolerance);
  CHECK(silu.error(silu.hidden() / (1 + (-silu.hidden()).exp())) < feed_forward_tolerance);
}

TEST_CASE("feed-forward: GEGLU in both forms and ReGLU gate with the first rows of gate_up") {
  const auto halves = [](const Case& c) { return c.hidden().chunk(2, -1); };
  const Case geglu("geglu", 10), tanh("geglu_tanh", 10), reglu("reglu", 10);
  const auto g = halves(geglu), t = halves(tanh), r = halves(reglu);
  CHECK(geglu.error(g[0] * 0.5 * (1 + at::erf(g[0] / std::numbers::sqrt2)) * g[1]) < feed_forward_tolerance);
  const auto inner = std::sqrt(2 / std::numbers::pi) * (t[0] + 0.044715 * t[0] * t[0] * t[0]);
  CHECK(tanh.error(0.5 * t[0] * (1 + inner.tanh()) * t[1]) < feed_forward_tolerance);
  CHECK(reglu.error(r[0].clamp_min(0) * r[1]) < feed_forward_tolerance);
}

TEST_CASE("feed-forward: without biases there are two matrices only") {
  CHECK(FeedForward(resolved({.bias = false}, 9)).parameters().size() == 2);
}
