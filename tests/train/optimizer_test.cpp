#include "train/optimizer.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinRel;

namespace {

Tensor leaf(at::IntArrayRef shape) { return at::randn(shape, at::kDouble).requires_grad_(); }

/// Algorithm 2 of Loshchilov and Hutter 2019 for one number, as in the paper but for the decay, which PyTorch and we
/// multiply by the rate.
struct Number {
  double weight, first = 0, second = 0;
  void step(double gradient, double rate, double decay, int t) {
    weight -= rate * decay * weight;
    first = 0.9 * first + 0.1 * gradient;
    second = 0.95 * second + 0.05 * gradient * gradient;
    const double mean = first / (1 - std::pow(0.9, t)), square = second / (1 - std::pow(0.95, t));
    weight -= rate * mean / (std::sqrt(square) + 1e-8);
  }
};

}  // namespace

TEST_CASE("optimizer: ten steps equal the paper's algorithm, with decay on matrices only") {
  at::manual_seed(1);
  // 37 numbers: more than one vector register and a remainder, so that both paths of the fused kernel are seen.
  const auto matrix = leaf({37, 1}), gain = leaf({37});
  AdamW optimizer({{"matrix", matrix}, {"gain", gain}}, {.weight_decay = 0.3});
  std::vector<Number> matrix_numbers, gain_numbers;
  for (int i = 0; i < 37; ++i) {
    matrix_numbers.push_back({matrix[i][0].item<double>()});
    gain_numbers.push_back({gain[i].item<double>()});
  }
  for (int t = 1; t <= 10; ++t) {
    const double rate = 0.1 / t;
    const auto gradient = at::randn({37}, at::kDouble);
    matrix.mutable_grad() = gradient.view({37, 1}).clone();
    gain.mutable_grad() = gradient.clone();
    optimizer.step(rate);
    for (int i = 0; i < 37; ++i) {
      matrix_numbers[i].step(gradient[i].item<double>(), rate, 0.3, t);
      gain_numbers[i].step(gradient[i].item<double>(), rate, 0, t);
    }
  }
  for (int i = 0; i < 37; ++i) {
    // Float64 throughout; ten updates add some tens of roundings of 1e-16.
    CHECK_THAT(matrix[i][0].item<double>(), WithinRel(matrix_numbers[i].weight, 1e-12));
    CHECK_THAT(gain[i].item<double>(), WithinRel(gain_numbers[i].weight, 1e-12));
  }
}

TEST_CASE("optimizer: the gradient norm is that of one long vector, and scaling scales it") {
  const auto a = leaf({2, 2}), b = leaf({3}), unused = leaf({5});
  AdamW optimizer({{"a", a}, {"b", b}, {"unused", unused}}, {});
  CHECK(optimizer.gradient_norm().item<double>() == 0);
  a.mutable_grad() = at::full({2, 2}, 2.0, at::kDouble);
  b.mutable_grad() = at::full({3}, 4.0, at::kDouble);
  // Two roots and two sums in float64, a rounding each.
  CHECK_THAT(optimizer.gradient_norm().item<double>(), WithinRel(8.0, 1e-15));  // sqrt(4 * 4 + 3 * 16)
  optimizer.scale_gradients(0.25);
  CHECK_THAT(optimizer.gradient_norm().item<double>(), WithinRel(2.0, 1e-15));
  a.mutable_grad()[1][1] = NAN;
  CHECK(std::isnan(optimizer.gradient_norm().item<double>()));
  optimizer.zero_gradients();
  CHECK_FALSE(a.grad().defined());
}

TEST_CASE("optimizer: a parameter without a gradient is left alone") {
  const auto a = leaf({2, 2}), unused = leaf({5, 5});
  const auto before = unused.detach().clone();
  AdamW optimizer({{"a", a}, {"unused", unused}}, {.weight_decay = 1});
  a.mutable_grad() = at::ones({2, 2}, at::kDouble);
  optimizer.step(0.1);
  CHECK(at::equal(unused, before));
}

TEST_CASE("optimizer: state given to another one makes it go on to the same bits") {
  at::manual_seed(2);
  const auto a = leaf({4, 3});
  const auto b = a.detach().clone().requires_grad_();
  AdamW first({{"w", a}}, {}), second({{"w", b}}, {});
  const auto step = [](AdamW& optimizer, const Tensor& parameter, int t) {
    parameter.mutable_grad() = at::full({4, 3}, std::sin(t), at::kDouble);
    optimizer.step(0.01);
  };
  for (int t = 1; t <= 5; ++t) step(first, a, t);
  {
    const torch::NoGradGuard no_gradients;
    b.copy_(a);
  }
  second.restore(first.state(), first.steps_taken());
  for (int t = 6; t <= 9; ++t) {
    step(first, a, t);
    step(second, b, t);
  }
  CHECK(at::equal(a, b));
}
