// The kernels of decoding against the same definition in float64 by LibTorch's plain operators.

#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/decode_kernel.h"

using namespace attnscale;
using namespace attnscale::kernel_checks;

namespace {

Tensor exact(const Tensor& x) { return x.defined() ? x.to(at::kDouble) : x; }

}  // namespace

TEST_CASE("decode kernels: few rows without gradients times a matrix equal the definition, in both dtypes") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(7);  // where a sum of two terms cancels, rounding is most of it
  const torch::NoGradGuard no_gradients;
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const int64_t rows : {1, 3})
      for (const auto& [in, out] : {std::pair<int64_t, int64_t>{1, 1}, {33, 7}, {128, 130}})
        for (const bool with_bias : {false, true}) {
          CAPTURE(dtype, rows, in, out, with_bias);
          const auto x = at::randn({1, rows, in}).to(dtype), weight = at::randn({out, in}).to(dtype);
          const auto bias = with_bias ? at::randn({out}).to(dtype) : Tensor();
          REQUIRE(has_few_rows(x, weight));
          const auto ours = few_rows_product(x, weight, bias);
          CHECK(ours.scalar_type() == dtype);
          CHECK(difference(ours, at::linear(x.to(at::kDouble), weight.to(at::kDouble),
                                            with_bias ? bias.to(at::kDouble) : bias)) <
                (dtype == at::kFloat ? 1e-6 : 0.004));
        }
  const auto x = at::randn({1, 8}), weight = at::randn({5, 8});
  CHECK_FALSE(has_few_rows(at::randn({5, 8}), weight));
  CHECK_FALSE(has_few_rows(x, weight.to(at::kDouble)));
  {
    const torch::AutoGradMode gradients(true);
    CHECK_FALSE(has_few_rows(x, weight));
  }
  set_kernels(false);
  CHECK_FALSE(has_few_rows(x, weight));
}

TEST_CASE("decode kernels: attention of the newest query equals the definition, with shared heads and room behind") {
  NEEDS_KERNELS(at::kFloat);
  const torch::NoGradGuard no_gradients;
  // Values of 86: four vectors that are summed side by side, one more, and a part of one, where vectors are of 16.
  for (const auto& [dtype, keys, width] :
       std::vector<std::tuple<at::ScalarType, int64_t, int64_t>>{{at::kFloat, 1, 7},
                                                                 {at::kFloat, 5, 86},
                                                                 {at::kFloat, 130, 7},
                                                                 {at::kFloat, 130, 86},
                                                                 {at::kBFloat16, 1, 7},
                                                                 {at::kBFloat16, 5, 86},
                                                                 {at::kBFloat16, 130, 7},
                                                                 {at::kBFloat16, 130, 86}}) {
    CAPTURE(dtype, keys, width);
    const auto query = at::randn({2, 4, 1, 12}).to(dtype);
    const auto key = at::randn({2, 2, keys + 9, 12}).to(dtype).narrow(2, 0, keys);
    const auto value = at::randn({2, 2, keys + 9, width}).to(dtype).narrow(2, 0, keys);
    REQUIRE(is_newest_query(query, key, value));
    const auto weights =
        at::softmax(at::matmul(exact(query), exact(key).repeat_interleave(2, 1).mT()) / std::sqrt(12.0), -1);
    CHECK(difference(newest_attention(query, key, value), at::matmul(weights, exact(value).repeat_interleave(2, 1))) <
          (dtype == at::kFloat ? 1e-5 : 0.01));
  }
}

namespace {

Tensor activated(const Tensor& x, Activation kind) {
  if (kind == Activation::gelu) return at::gelu(x);
  if (kind == Activation::gelu_tanh) return at::gelu(x, "tanh");
  if (kind == Activation::silu) return at::silu(x);
  return kind == Activation::relu ? at::relu(x) : at::relu(x).square();
}

}  // namespace

TEST_CASE("decode kernels: a feed-forward network of few rows equals the definition, every activation, gated or not") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(8);
  const torch::NoGradGuard no_gradients;
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const auto kind :
         {Activation::gelu, Activation::gelu_tanh, Activation::silu, Activation::relu, Activation::relu_squared})
      for (const bool gated : {false, true})
        for (const int64_t width : {1, 70, 130}) {
          CAPTURE(dtype, static_cast<int>(kind), gated, width);
          const bool with_bias = width != 70;
          const int64_t parts = gated ? 2 : 1;
          const auto of = [&](at::IntArrayRef sizes) { return at::randn(sizes).to(dtype); };
          const auto x = of({1, 3, 33}), up = of({parts * width, 33}), down = of({9, width});
          const auto up_bias = with_bias ? of({parts * width}) : Tensor(), down_bias = with_bias ? of({9}) : Tensor();
          const auto ours = few_rows_feed_forward(x, up, up_bias, down, down_bias, kind, gated);
          CHECK(ours.scalar_type() == dtype);
          const auto hidden = at::linear(exact(x), exact(up), exact(up_bias)).chunk(parts, -1);
          const auto active = gated ? activated(hidden[0], kind) * hidden[1] : activated(hidden[0], kind);
          CHECK(difference(ours, at::linear(active, exact(down), exact(down_bias))) <
                (dtype == at::kFloat ? 1e-5 : 0.005));
        }
  const auto x = at::randn({1, 8}), up = at::randn({6, 8}), down = at::randn({8, 6});
  CHECK_THROWS_AS(few_rows_feed_forward(x, up, {}, down, {}, Activation::gelu, true), c10::Error);
  CHECK_THROWS_AS(few_rows_feed_forward(x, up, at::randn({5}), down, {}, Activation::gelu, false), c10::Error);
}

TEST_CASE("decode kernels: norms of few bfloat16 rows are those of the rounded sum") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(9);
  const torch::NoGradGuard no_gradients;
  const auto of = [](at::IntArrayRef sizes) { return at::randn(sizes).to(at::kBFloat16); };
  for (const bool centred : {false, true})
    for (const bool adds : {false, true})
      for (const int64_t width : {1, 17, 384}) {
        CAPTURE(centred, adds, width);
        const auto x = of({1, 2, width}), added = adds ? of({1, 2, width}) : Tensor(), weight = of({width});
        const auto bias = centred && width != 17 ? of({width}) : Tensor();
        REQUIRE(norms_few_rows(x, added, weight));
        const auto [stream, norm] = few_rows_norm(x, added, weight, bias, {.centred = centred, .epsilon = 1e-5});
        CHECK(at::equal(stream, adds ? x + added : x));
        const auto expected = centred ? at::layer_norm(exact(stream), {width}, exact(weight), exact(bias), 1e-5)
                                      : at::rms_norm(exact(stream), {width}, exact(weight), 1e-5);
        CHECK(difference(norm, expected, 1) < 0.005);
      }
  const auto x = of({1, 8}), weight = of({8});
  CHECK_FALSE(norms_few_rows(of({5, 8}), {}, weight));
  CHECK_FALSE(norms_few_rows(x, of({8}), weight));
  CHECK_FALSE(norms_few_rows(x, {}, weight.to(at::kFloat)));
  CHECK_FALSE(norms_few_rows(x.to(at::kFloat), {}, weight));
  const torch::AutoGradMode gradients(true);
  CHECK_FALSE(norms_few_rows(x, {}, weight));
}
