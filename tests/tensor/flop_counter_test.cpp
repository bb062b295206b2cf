// Expected numbers are worked out by hand: a product [M, K] x [K, N] is 2 M K N FLOPs, and its
// backward pass is two products of the same size.

#include "tensor/flop_counter.h"

#include <functional>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinRel;

namespace {

at::Tensor leaf(at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(true); }

double count(const std::function<void()>& work) {
  const FlopCounter counter;
  work();
  return counter.total();
}

}  // namespace

TEST_CASE("flop counter: matmul in all its ranks counts once") {
  CHECK(count([] { at::matmul(at::randn({3, 4}), at::randn({4, 5})); }) == 2 * 3 * 4 * 5);
  CHECK(count([] { at::matmul(at::randn({2, 7, 3, 4}), at::randn({2, 7, 4, 5})); }) == 2 * 14 * 3 * 4 * 5);
  CHECK(count([] { at::matmul(at::randn({2, 3, 4}), at::randn({4, 5})); }) == 2 * 6 * 4 * 5);
  CHECK(count([] { at::matmul(at::randn({3, 4}), at::randn({4})); }) == 2 * 3 * 4);
  CHECK(count([] { at::matmul(at::randn({4}), at::randn({4})); }) == 2 * 4);
}

TEST_CASE("flop counter: a linear layer and its backward pass") {
  // [2, 3, 4] x [4, 5] with a bias: forward 2 * 6 * 4 * 5 = 240, then as much for each gradient.
  const auto input = leaf({2, 3, 4}), weight = leaf({5, 4}), bias = leaf({5});
  at::Tensor output;
  CHECK(count([&] { output = at::linear(input, weight, bias); }) == 240);
  CHECK(count([&] { output.sum().backward(); }) == 480);
}

TEST_CASE("flop counter: einsum and the fused additions") {
  CHECK(count([] {
          at::einsum("bhtd,bhsd->bhts", {at::randn({2, 3, 4, 5}), at::randn({2, 3, 6, 5})});
        }) == 2 * 6 * 4 * 5 * 6);
  const auto a = at::randn({2, 3, 4}), b = at::randn({2, 4, 5});
  CHECK(count([&] { at::baddbmm(at::zeros({2, 3, 5}), a, b); }) == 2 * 2 * 3 * 4 * 5);
  CHECK(count([&] { at::addbmm(at::zeros({3, 5}), a, b); }) == 2 * 2 * 3 * 4 * 5);
  CHECK(count([&] { at::addmv(at::zeros({3}), a[0], at::randn({4})); }) == 2 * 3 * 4);
}

TEST_CASE("flop counter: elementwise work does not count") {
  CHECK(count([] { (at::randn({8, 8}) * at::randn({8, 8})).softmax(-1).sum(); }) == 0);
}

TEST_CASE("flop counter: attention counts its full square by both kernels") {
  // B H T S (D + E) * 2 = 2 * 3 * 5 * 7 * (8 + E) * 2.
  for (const int64_t value_dim : {8, 6}) {
    const double forward = 2.0 * 2 * 3 * 5 * 7 * (8 + value_dim);
    const auto query = leaf({2, 3, 5, 8}), key = leaf({2, 3, 7, 8}), value = leaf({2, 3, 7, value_dim});
    at::Tensor output;
    CHECK(count([&] { output = at::scaled_dot_product_attention(query, key, value); }) == forward);
    // Equal widths run the fused kernel, which computes the scores again: 5 products for 2.
    // Otherwise the weights were kept: 4 products for 2.
    CHECK(count([&] { output.sum().backward(); }) == (value_dim == 8 ? 2.5 : 2.0) * forward);
  }
}

TEST_CASE("flop counter: what a causal mask hides in fused attention is told apart, forward and backward") {
  // Of 5 queries and 5 keys 15 of 25 pairs are seen; of 5 queries and 3 keys 1 + 2 + 3 + 3 + 3 of 15.
  for (const int64_t keys : {5, 3}) {
    const auto query = leaf({2, 3, 5, 8}), key = leaf({2, 3, keys, 8}), value = leaf({2, 3, keys, 8});
    const double pairs = 2 * 3 * 5 * static_cast<double>(keys), hidden = 2 * 3 * (keys == 5 ? 10 : 3);
    const FlopCounter counter;
    const auto output = at::scaled_dot_product_attention(query, key, value, {}, 0.0, /*is_causal=*/true);
    CHECK_THAT(counter.behind_causal_masks(), WithinRel(2 * hidden * 16, 1e-12));
    output.sum().backward();
    CHECK_THAT(counter.behind_causal_masks(), WithinRel(3.5 * 2 * hidden * 16, 1e-12));
    CHECK(counter.total() == 3.5 * 2 * pairs * 16);
  }
  const auto x = at::randn({2, 3, 5, 8});
  const FlopCounter counter;
  at::scaled_dot_product_attention(x, x, x);
  CHECK(counter.total() > 0);
  CHECK(counter.behind_causal_masks() == 0);
}

TEST_CASE("flop counter: attention with grouped heads counts every query head") {
  const auto query = at::randn({2, 4, 5, 8}), key = at::randn({2, 1, 5, 8});
  CHECK(count([&] { at::scaled_dot_product_attention(query, key, key, {}, 0.0, true, std::nullopt, true); }) ==
        2.0 * 2 * 4 * 5 * 5 * 16);
}

TEST_CASE("flop counter: a strided, padded, grouped convolution and its backward pass") {
  // Output places: (9 + 2 - 3) / 2 + 1 = 5. Each of 8 output channels meets 3 input channels of its
  // group in 3 taps: 2 * 2 * 5 * 8 * 3 * 3 = 1440.
  const auto input = leaf({2, 6, 9}), weight = leaf({8, 3, 3}), bias = leaf({8});
  at::Tensor output;
  CHECK(count([&] { output = at::conv1d(input, weight, bias, 2, 1, 1, 2); }) == 1440);
  CHECK(output.size(2) == 5);
  CHECK(count([&] { output.sum().backward(); }) == 2 * 1440);
  // Data needs no gradient: only the weight's is computed.
  CHECK(count([&] { output = at::conv1d(input.detach(), weight, bias, 2, 1, 1, 2); }) == 1440);
  CHECK(count([&] { output.sum().backward(); }) == 1440);
}

TEST_CASE("flop counter: a dilated convolution in two dimensions") {
  // Places: 9 - 2 * 2 = 5 by 8 - 2 * 1 = 6, so 30; weights: 4 * 3 * 3 * 2 = 72.
  const auto input = at::randn({1, 3, 9, 8}), weight = at::randn({4, 3, 3, 2});
  at::Tensor output;
  CHECK(count([&] { output = at::conv2d(input, weight, {}, {1, 1}, at::IntArrayRef{0, 0}, {2, 2}); }) == 2.0 * 30 * 72);
  CHECK(output.size(2) * output.size(3) == 30);
}

TEST_CASE("flop counter: a transposed convolution counts its input places") {
  const auto input = leaf({2, 4, 5}), weight = leaf({4, 6, 3});
  at::Tensor output;
  CHECK(count([&] { output = at::conv_transpose1d(input, weight); }) == 2.0 * 2 * 5 * 4 * 6 * 3);
  CHECK(count([&] { output.sum().backward(); }) == 2 * 2.0 * 2 * 5 * 4 * 6 * 3);
}

TEST_CASE("flop counter: autocast does not count a product twice") {
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const double flops = count([] { at::mm(at::randn({3, 4}), at::randn({4, 5})); });
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  CHECK(flops == 2 * 3 * 4 * 5);
}

TEST_CASE("flop counter: products of other threads are seen") {
  CHECK(count([] { std::thread([] { at::mm(at::randn({3, 4}), at::randn({4, 5})); }).join(); }) == 2 * 3 * 4 * 5);
}

TEST_CASE("flop counter: a fresh counter starts at zero, and a dead one hears nothing") {
  CHECK(count([] { at::mm(at::randn({3, 4}), at::randn({4, 5})); }) == 120);
  at::mm(at::randn({3, 4}), at::randn({4, 5}));
  CHECK(count([] {}) == 0);
}
