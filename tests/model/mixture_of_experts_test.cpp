#include "model/mixture_of_experts.h"

#include <algorithm>
#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include <ATen/Functions.h>

#include "model/small_model.h"
#include "tensor/flop_counter.h"

using namespace attnscale;

namespace {

std::shared_ptr<MixtureOfExperts> random_mixture(const ModelOptions& options) {
  auto mixture = std::make_shared<MixtureOfExperts>(options);
  const torch::NoGradGuard guard;
  mixture->to(torch::kFloat64);
  torch::manual_seed(3);
  for (auto& parameter : mixture->parameters()) parameter.normal_(0, 0.5);
  return mixture;
}

/// One position, from the papers' equations.
Tensor by_hand(MixtureOfExperts& mixture, const Tensor& x, int64_t per_token) {
  const auto p = mixture.named_parameters();
  const auto router = at::softmax(at::mv(p["router.weight"], x), 0);
  std::vector<std::pair<double, int64_t>> order;
  for (int64_t i = 0; i < router.size(0); ++i) order.emplace_back(-router[i].item<double>(), i);
  std::sort(order.begin(), order.end());
  auto total = at::zeros({}, torch::kFloat64);
  for (int64_t k = 0; k < per_token; ++k) total = total + router[order[static_cast<size_t>(k)].second];
  auto y = at::zeros_like(x);
  for (int64_t k = 0; k < per_token; ++k) {
    const auto i = order[static_cast<size_t>(k)].second;
    const auto name = "experts." + std::to_string(i);
    const auto up = at::mv(p[name + ".up.weight"], x) + p[name + ".up.bias"];
    const auto out = at::mv(p[name + ".down.weight"], at::relu(up)) + p[name + ".down.bias"];
    y = y + (per_token == 1 ? router[i] : router[i] / total) * out;
  }
  return y;
}

}  // namespace

TEST_CASE("mixture of experts: outputs and gradients are those of the equations, position by position") {
  for (const int64_t per_token : {1, 2, 3}) {
    CAPTURE(per_token);
    const auto mixture =
        random_mixture(small_options({.feed_forward = "relu", .experts = 4, .experts_per_token = per_token}));
    auto x = at::randn({2, 9, 12}, torch::kFloat64).requires_grad_();
    const auto weights = at::randn({2, 9, 12}, torch::kFloat64);
    const auto gradients = [&](const Tensor& y) {
      for (auto& parameter : mixture->parameters()) parameter.mutable_grad() = Tensor();
      x.mutable_grad() = Tensor();
      (y * weights).sum().backward();
      std::vector<Tensor> all = {x.grad().clone()};
      for (const auto& parameter : mixture->parameters()) all.push_back(parameter.grad().clone());
      return all;
    };
    const auto y = mixture->forward(x);
    std::vector<Tensor> rows;
    for (const auto& row : x.flatten(0, 1).unbind(0)) rows.push_back(by_hand(*mixture, row, per_token));
    const auto expected = at::stack(rows).view({2, 9, 12});
    CHECK((y - expected).abs().max().item<double>() < 1e-12);  // float64 sums of 48 in another order
    const auto ours = gradients(y), theirs = gradients(expected);
    for (size_t i = 0; i < ours.size(); ++i) {
      CHECK((ours[i] - theirs[i]).abs().max().item<double>() < 1e-12);
      CHECK(ours[i].abs().max().item<double>() > 0);
    }
  }
}

TEST_CASE("mixture of experts: each position costs its router and its own experts") {
  const auto options = small_options({.feed_forward = "relu", .experts = 8, .experts_per_token = 2});
  const auto mixture = random_mixture(options);
  const torch::NoGradGuard guard;
  const FlopCounter counter;
  mixture->forward(at::randn({3, 5, 12}, torch::kFloat64));
  CHECK(counter.total() == 15 * (2 * 12 * 8 + 2 * (2 * 12 * 48 + 2 * 48 * 12)));
}

TEST_CASE("mixture of experts: an expert that nobody chose has a gradient of zero") {
  const auto mixture = random_mixture(small_options({.feed_forward = "relu", .experts = 3, .experts_per_token = 1}));
  auto p = mixture->named_parameters();
  {
    const torch::NoGradGuard guard;
    p["router.weight"].zero_();
    p["router.weight"][1].fill_(1);
  }
  mixture->forward(at::ones({1, 4, 12}, torch::kFloat64)).sum().backward();
  REQUIRE(p["experts.0.up.weight"].grad().defined());
  CHECK(p["experts.0.up.weight"].grad().abs().max().item<double>() == 0);
  CHECK(p["experts.1.up.weight"].grad().abs().max().item<double>() > 0);
}

TEST_CASE("mixture of experts: the balance loss by hand, and the router's z-loss") {
  // Two experts, one each. Logits by position: (0, ln 3) twice and (ln 3, 0) once: probabilities 1/4 and 3/4.
  const auto with = [](double balance, double z) {
    auto options = small_options(
        {.feed_forward = "relu", .experts = 2, .experts_per_token = 1, .balance_loss = balance, .router_z_loss = z});
    const auto mixture = random_mixture(options);
    {
      const torch::NoGradGuard guard;
      auto router = mixture->named_parameters()["router.weight"];
      router.zero_();
      router[0][0] = router[1][1] = std::log(3.0);
    }
    auto x = at::zeros({3, 12}, torch::kFloat64);
    x[0][1] = x[1][1] = x[2][0] = 1;
    mixture->forward(x);
    const auto loss = mixture->take_auxiliary_loss();
    CHECK_FALSE(mixture->take_auxiliary_loss().defined());
    mixture->eval();
    mixture->forward(x);
    CHECK_FALSE(mixture->take_auxiliary_loss().defined());
    return loss;
  };
  // f = (1/3, 2/3), P = (5/12, 7/12): 2 (5 / 36 + 14 / 36) = 19 / 18.
  CHECK(std::abs(with(1, 0).item<double>() - 19.0 / 18) < 1e-14);
  CHECK(std::abs(with(0, 0.5).item<double>() - 0.5 * std::pow(std::log(4.0), 2)) < 1e-14);
  CHECK(std::abs(with(0.1, 0.5).item<double>() - 1.9 / 18 - 0.5 * std::pow(std::log(4.0), 2)) < 1e-14);
  CHECK_FALSE(with(0, 0).defined());
}
