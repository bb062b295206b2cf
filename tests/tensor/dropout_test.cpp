#include "tensor/dropout.h"

#include <cmath>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/PhiloxRNGEngine.h>
#include <torch/csrc/autograd/autograd.h>
#include <catch2/catch_test_macros.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/dropout_kernel.h"
#include "tensor/kernels/kernels.h"

using namespace attnscale;

namespace {

Tensor after_seed(uint64_t seed, const Tensor& x, double drop) {
  torch::manual_seed(seed);
  return dropout_kernel(x, drop);
}

}  // namespace

TEST_CASE("kernels: dropout's mask is Philox of one number that the default generator gives, as LibTorch counts it") {
  NEEDS_KERNELS(at::kFloat);
  constexpr int64_t count = 64 * 64 * 2 + 37;
  for (const double drop : {0.25, 0.9}) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{77});
    const uint64_t key = at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
    const auto out = after_seed(77, torch::ones({count}), drop);
    int64_t wrong = 0;
    for (int64_t i = 0; i < count; ++i) {
      at::Philox4_32 engine(key, 0, static_cast<uint64_t>(i / 64 * 16 + i % 16));
      uint32_t word = 0;
      for (int64_t w = 0; w <= i % 64 / 16; ++w) word = engine();
      const double expected = word < std::round((1 - drop) * 4294967296.0) ? 1 / (1 - drop) : 0;
      wrong += std::abs(out[i].item<double>() - expected) > 1e-6 * expected;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE(
    "kernels: dropout is the same in both dtypes, in any layout and on any number of threads, and its gradient has its "
    "mask") {
  NEEDS_KERNELS(at::kFloat);
  const int threads = at::get_num_threads();
  const auto x = torch::randn({70, 5, 33});
  const auto out = after_seed(3, x, 0.3);
  const auto mask = after_seed(3, torch::ones_like(x), 0.3);
  CHECK(at::equal(out, x * mask));
  CHECK_FALSE(at::equal(out, after_seed(4, x, 0.3)));
  CHECK(at::equal(after_seed(3, x.transpose(0, 2).contiguous().transpose(0, 2), 0.3), out));
  const auto narrow = x.to(torch::kBFloat16);
  CHECK(at::equal(after_seed(3, narrow, 0.3), (narrow.to(torch::kFloat) * mask).to(torch::kBFloat16)));
  at::set_num_threads(threads == 1 ? 3 : 1);
  CHECK(at::equal(after_seed(3, x, 0.3), out));
  at::set_num_threads(threads);

  const auto leaf = x.clone().requires_grad_(), weights = torch::randn_like(x), v = weights.clone().requires_grad_();
  const auto gradient = torch::autograd::grad({(after_seed(3, leaf, 0.3) * v).sum()}, {leaf}, {}, true, true)[0];
  CHECK(at::equal(gradient.detach(), weights * mask));
  CHECK(at::equal(torch::autograd::grad({(gradient * x).sum()}, {v})[0], x * mask));
}

TEST_CASE("kernels: dropout drops its share, each number for itself, and hides no number that is none") {
  NEEDS_KERNELS(at::kFloat);
  constexpr int64_t count = 1 << 20;
  constexpr double drop = 0.2, error = 4e-4;  // of a share of so many draws: sqrt(.2 .8 / 2^20)
  const auto gone = (after_seed(5, torch::ones({count}), drop) == 0).to(torch::kFloat64);
  CHECK(std::abs(gone.mean().item<double>() - drop) < 5 * error);
  for (const int64_t apart : {1, 15, 16, 64, 1024}) {
    const auto both = (gone.narrow(0, apart, count - apart) * gone.narrow(0, 0, count - apart)).mean().item<double>();
    CHECK(std::abs(both - drop * drop) < 5 * error);
  }
  const auto second = (dropout_kernel(torch::ones({count}), drop) == 0).to(torch::kFloat64);  // the next draw
  CHECK(std::abs((gone * second).mean().item<double>() - drop * drop) < 5 * error);
  CHECK(after_seed(5, torch::full({64}, NAN), drop).isnan().all().item<bool>());
  CHECK(after_seed(5, torch::ones({0, 4}), drop).sizes() == at::IntArrayRef({0, 4}));
}

TEST_CASE("dropout: nothing is dropped at 0 or outside of training, everything at 1, with kernels and without") {
  const KernelsAsBefore as_before;
  for (const bool kernels : {true, false}) {
    set_kernels(kernels);
    const auto ones = torch::ones({3});
    CHECK(at::equal(with_dropout(ones, 0.2, false), ones));
    CHECK(at::equal(with_dropout(ones, 0, true), ones));
    CHECK(at::equal(with_dropout(ones, 1, true), torch::zeros({3})));
  }
}
