#pragma once

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>

#include "tensor/kernels/kernels.h"

// What tests of kernels share: a float64 twin, and outputs and gradients compared with it.

namespace attnscale::kernel_checks {

using torch::Tensor;

/// Kernels switched on or off while it lives.
struct Kernels {
  explicit Kernels(bool on) : before(kernels_on()) { set_kernels(on); }
  ~Kernels() { set_kernels(before); }
  bool before;
};

#define NEEDS_KERNELS(dtype)                                   \
  const attnscale::kernel_checks::Kernels these_kernels(true); \
  if (!attnscale::has_kernels(dtype)) SKIP("this processor has no kernels for that dtype")

inline double tolerance(at::ScalarType dtype) { return dtype == at::kFloat ? 1e-5 : 0.04; }

inline Tensor trained(at::IntArrayRef sizes, double scale = 1) {
  return (at::randn(sizes) * scale).set_requires_grad(true);
}

/// The same numbers in float64, with gradients of their own.
inline Tensor twin_of(const Tensor& x) { return x.defined() ? x.detach().to(at::kDouble).set_requires_grad(true) : x; }

/// No number to compare with is as small.
constexpr double smallest = 1e-30;

/// Largest difference, as a part of the largest number of the exact side, however small that is, or of `least`.
inline double difference(const Tensor& a, const Tensor& b, double least = smallest) {
  REQUIRE(a.sizes() == b.sizes());
  if (a.numel() == 0) return 0;
  return ((a.to(at::kDouble) - b).abs().max() / b.abs().max().clamp_min(least)).item<double>();
}

/// Output and gradients of both, under a gradient that is no constant.
/// @param least  1 where what a gradient is made of, of the order of 1, cancels by nature, and rounding is all there is
inline void check_same(const Tensor& output, const Tensor& expected,
                       const std::vector<std::pair<Tensor, Tensor>>& inputs, at::ScalarType dtype,
                       double least = smallest) {
  CHECK(difference(output, expected) < tolerance(dtype));
  const auto upstream = at::randn(expected.sizes(), at::kDouble);
  output.backward(upstream.to(output.scalar_type()));
  expected.backward(upstream);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].first.defined()) continue;
    CAPTURE(i);
    REQUIRE(inputs[i].first.grad().defined());
    CHECK(inputs[i].first.grad().scalar_type() == inputs[i].first.scalar_type());
    CHECK(difference(inputs[i].first.grad(), inputs[i].second.grad(), least) < tolerance(dtype));
  }
}

}  // namespace attnscale::kernel_checks
