#include "attention/rotary.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include <torch/csrc/autograd/autograd.h>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/kernels.h"

using namespace attnscale;

namespace {

double largest(const Tensor& x) { return x.abs().max().item<double>(); }

// float64; angles up to 64 carry 64 x 1e-16 of rounding.
constexpr double rotary_tolerance = 1e-13;

}  // namespace

TEST_CASE("rotary: pairs are complex numbers multiplied by exp(i t base^(-2j/D))") {
  torch::manual_seed(6);
  Rotary rotary(20, 6, 100);
  const auto x = torch::randn({2, 5, 3, 6}, torch::kFloat64);
  const int64_t offset = 7;
  const auto turned = rotary.turn(x, offset);
  for (int64_t t = 0; t < 5; ++t)
    for (int64_t j = 0; j < 3; ++j) {
      const double angle = static_cast<double>(offset + t) * std::pow(100.0, -2.0 * static_cast<double>(j) / 6.0);
      const auto pair = at::complex(x.select(1, t).select(-1, j), x.select(1, t).select(-1, j + 3));  // [B, N]
      const auto expected = pair * c10::complex<double>(std::cos(angle), std::sin(angle));
      const auto got = at::complex(turned.select(1, t).select(-1, j), turned.select(1, t).select(-1, j + 3));
      CHECK(largest(got - expected) < rotary_tolerance);
    }
}

TEST_CASE("rotary: the product of query and key depends on their distance only") {
  torch::manual_seed(7);
  Rotary rotary(64, 8, 10000);
  const auto query = torch::randn({1, 1, 1, 8}, torch::kFloat64), key = torch::randn({1, 1, 1, 8}, torch::kFloat64);
  const auto product = [&](int64_t m, int64_t n) {
    return (rotary.turn(query, m) * rotary.turn(key, n)).sum().item<double>();
  };
  for (const int64_t shift : {1, 17, 50})
    CHECK(std::abs(product(9, 4) - product(9 + shift, 4 + shift)) < rotary_tolerance);
  CHECK(std::abs(product(9, 4) - product(9, 5)) > 1e-3);  // and does depend on it
}

TEST_CASE("rotary: gradients are those of the same formula written with plain operations") {
  torch::manual_seed(8);
  Rotary rotary(16, 4, 10000);
  const auto x = torch::randn({2, 3, 2, 4}, torch::dtype(torch::kFloat64).requires_grad(true));
  const auto weights = torch::randn({2, 3, 2, 4}, torch::kFloat64);
  const auto frequencies = torch::tensor({1.0, 0.01}, torch::kFloat64);
  const auto angles = (torch::arange(5, 8, torch::kFloat64).unsqueeze(1) * frequencies).unsqueeze(1);  // [T, 1, 2]
  const auto halves = x.chunk(2, -1);
  const auto plain = at::cat(
      {halves[0] * angles.cos() - halves[1] * angles.sin(), halves[1] * angles.cos() + halves[0] * angles.sin()}, -1);
  const auto expected = torch::autograd::grad({(plain * weights).sum()}, {x})[0];
  const auto got = torch::autograd::grad({(rotary.turn(x, 5) * weights).sum()}, {x})[0];
  CHECK(largest(rotary.turn(x, 5) - plain) < rotary_tolerance);
  CHECK(largest(got - expected) < rotary_tolerance);
}

TEST_CASE("rotary: a gradient that is not contiguous is read in the right order") {
  torch::manual_seed(9);
  Rotary rotary(16, 4, 10000);
  const auto x = torch::randn({2, 3, 2, 4}, torch::dtype(torch::kFloat64).requires_grad(true));
  const auto weights = torch::randn({2, 2, 3, 4}, torch::kFloat64);
  const auto strided = torch::autograd::grad({(rotary.turn(x, 0).transpose(1, 2) * weights).sum()}, {x})[0];
  const auto plain = torch::autograd::grad({(rotary.turn(x, 0) * weights.transpose(1, 2).contiguous()).sum()}, {x})[0];
  CHECK(at::equal(strided, plain));
}

TEST_CASE("rotary: the kernel turns as LibTorch's operators do, there and back, whole heads and parts of them") {
  torch::manual_seed(10);
  NEEDS_KERNELS(at::kFloat);
  struct Case {
    int64_t batch, length, heads, width, turned;
    at::ScalarType type;
    double tolerance;  ///< bfloat16: operators round each of two products
  };
  for (const auto& [batch, length, heads, width, turned, type, tolerance] :
       {Case{2, 70, 3, 32, 32, at::kFloat, 1e-6}, Case{1, 5, 2, 6, 6, at::kFloat, 1e-6},
        Case{3, 1, 4, 80, 52, at::kFloat, 1e-6}, Case{2, 70, 3, 32, 32, at::kBFloat16, 0.03},
        Case{2, 9, 5, 38, 34, at::kBFloat16, 0.03}}) {
    INFO(batch << " x " << length << " x " << heads << " x " << width << ", " << turned << " of it, " << type);
    Rotary rotary(100, turned, 10000);
    const auto whole = torch::randn({batch, length, heads + 2, width}).to(type);
    const auto weights = torch::randn({batch, heads, length, width}).to(type);
    const auto results = [&](bool kernels) {
      set_kernels(kernels);
      const auto x = whole.clone().requires_grad_();
      const auto out = rotary.turn(x.narrow(2, 1, heads), 3);  // rows that lie apart
      const auto gradient = torch::autograd::grad({(out.transpose(1, 2) * weights).sum()}, {x})[0];
      return std::make_pair(out.detach().to(at::kDouble), gradient.to(at::kDouble));
    };
    const auto kernel = results(true), twin = results(false);
    CHECK(largest(kernel.first - twin.first) < tolerance);
    CHECK(largest(kernel.second - twin.second) < tolerance);
    CHECK(largest(kernel.first - results(true).first) == 0);
  }
}

TEST_CASE("rotary: yarn divides every frequency where none turns once, and none where all turn more than 32 times") {
  // The fastest pair turns by one radian a position: 4 positions are 0.64 of a turn, 6 are 0.95, 2 are 0.32.
  struct Case {
    int64_t width;
    double trained;
  };
  for (const auto& [width, trained] : {Case{64, 4}, Case{32, 2}, Case{32, 6}, Case{2, 1}}) {
    CAPTURE(width, trained);
    const auto plain = rotary_frequencies(width, 10000, {});
    const auto yarn = rotary_frequencies(width, 10000, {.kind = "yarn", .factor = 16, .trained = trained});
    CHECK(largest(yarn / plain - 1.0 / 16) < 1e-15);
  }
  // The slowest of base 2 turns by more than half a radian: more than 32 times within 1e6 positions.
  const auto fast = rotary_frequencies(8, 2, {.kind = "yarn", .factor = 16, .trained = 1e6});
  CHECK(at::equal(fast, rotary_frequencies(8, 2, {})));
}
