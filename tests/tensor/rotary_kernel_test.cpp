#include "tensor/kernels/rotary_kernel.h"

#include <torch/csrc/autograd/autograd.h>
#include <catch2/catch_test_macros.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/kernels.h"

using namespace attnscale;

namespace {

/// Pairs as complex numbers, in float64. @param x [B, T, N, W] @param angles [T, R/2]
Tensor turned_exactly(const Tensor& x, const Tensor& cosine, const Tensor& sine) {
  const int64_t half = cosine.size(1);
  const auto wide = x.to(at::kDouble), c = cosine.to(at::kDouble).unsqueeze(1), s = sine.to(at::kDouble).unsqueeze(1);
  const auto first = wide.narrow(3, 0, half), second = wide.narrow(3, half, half);
  return at::cat({first * c - second * s, second * c + first * s, wide.narrow(3, 2 * half, x.size(3) - 2 * half)}, 3);
}

}  // namespace

TEST_CASE("kernels: rotary pairs are turned as in float64, there and back, in any layout") {
  NEEDS_KERNELS(at::kFloat);
  torch::manual_seed(10);
  struct Case {
    int64_t batch, length, heads, width, turned;
    at::ScalarType type;
  };
  for (const auto& [batch, length, heads, width, turned, type] :
       {Case{2, 70, 3, 32, 32, at::kFloat}, Case{1, 5, 2, 6, 6, at::kFloat}, Case{3, 1, 4, 80, 52, at::kFloat},
        Case{2, 70, 3, 32, 32, at::kBFloat16}, Case{2, 9, 5, 38, 34, at::kBFloat16}, Case{0, 3, 2, 4, 4, at::kFloat}}) {
    INFO(batch << " x " << length << " x " << heads << " x " << width << ", " << turned << " of it, " << type);
    const auto angles = torch::randn({length, turned / 2}, at::kDouble) * 5;
    const auto cosine = angles.cos().to(type), sine = angles.sin().to(type);
    const double tolerance = type == at::kFloat ? 2e-6 : 0.02;  // bfloat16: of numbers up to 4, rounded once
    const auto whole = torch::randn({batch, length, heads + 2, width}).to(type);
    const auto weights = torch::randn({batch, length, heads, width}).to(type);
    for (const bool across : {false, true}) {  // rows that lie apart, or numbers of a head that do
      CAPTURE(across);
      const auto given = across ? whole.transpose(2, 3).contiguous().transpose(2, 3) : whole;
      const auto x = given.narrow(2, 1, heads).detach().requires_grad_();
      const auto out = rotary_kernel(x, cosine, sine);
      CHECK(out.scalar_type() == type);
      CHECK(at::allclose(out.to(at::kDouble), turned_exactly(x, cosine, sine), 0, tolerance));
      const auto back = torch::autograd::grad({(out * weights).sum()}, {x}, {}, true)[0];
      CHECK(at::allclose(back.to(at::kDouble), turned_exactly(weights, cosine, -sine), 0, tolerance));
      const auto of_sum = torch::autograd::grad({out.sum()}, {x})[0];  // a gradient of one number, seen everywhere
      CHECK(
          at::allclose(of_sum.to(at::kDouble), turned_exactly(torch::ones_like(weights), cosine, -sine), 0, tolerance));
    }
  }
}

TEST_CASE("kernels: rotary's gradient has a gradient, and shapes that do not meet are refused") {
  NEEDS_KERNELS(at::kFloat);
  const auto angles = torch::randn({3, 2}), cosine = angles.cos(), sine = angles.sin();
  const auto x = torch::randn({1, 3, 2, 4}, torch::requires_grad()),
             v = torch::randn({1, 3, 2, 4}, torch::requires_grad()), weights = torch::randn({1, 3, 2, 4});
  const auto gradient = torch::autograd::grad({(rotary_kernel(x, cosine, sine) * v).sum()}, {x}, {}, true, true)[0];
  const auto second = torch::autograd::grad({(gradient * weights).sum()}, {v})[0];
  CHECK(at::allclose(second, rotary_kernel(weights, cosine, sine), 0, 1e-6));
  CHECK_THROWS_AS(rotary_kernel(torch::randn({1, 4, 2, 4}), cosine, sine), c10::Error);
  CHECK_THROWS_AS(rotary_kernel(torch::randn({1, 3, 2, 3}), cosine, sine), c10::Error);
  CHECK_THROWS_AS(rotary_kernel(torch::randn({1, 3, 2, 4}).to(at::kBFloat16), cosine, sine), c10::Error);
}
