// Each kernel against the same definition in float64 by LibTorch's plain operators, outputs and gradients, in sizes
// that fill no tile. Tolerances: float32 sums of some hundred terms, 1e-5 of the largest number; bfloat16 keeps 8 bits,
// of which a few roundings in a row take up to 4 %.

#include <array>
#include <cmath>
#include <cstdlib>
#include <string>

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "tensor/flop_counter.h"
#include "tensor/kernel_checks.h"
#include "tensor/kernels/activation_rows.h"
#include "tensor/kernels/attention_kernel.h"
#include "tensor/kernels/feed_forward_kernel.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/linear_kernel.h"
#include "tensor/kernels/vector_functions.h"
#include "tensor/linear.h"
#include "tensor/precision.h"

using namespace attnscale;
using namespace attnscale::kernel_checks;

namespace {

Tensor plain_activation(const Tensor& x, Activation kind) {
  switch (kind) {
    case Activation::gelu:
      return at::gelu(x);
    case Activation::gelu_tanh:
      return at::gelu(x, "tanh");
    case Activation::silu:
      return at::silu(x);
    case Activation::relu:
      return at::relu(x);
    default:
      return at::relu(x).square();
  }
}

}  // namespace

TEST_CASE("kernels: a linear layer and its gradients equal the definition") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  NEEDS_KERNELS(dtype);
  at::manual_seed(1);
  struct Shape {
    int64_t rows, in, out;
  };
  for (const auto& [rows, in, out] :
       {Shape{1, 1, 1},
        {3, 5, 7},
        {64, 64, 64},
        {65, 63, 129},
        {130, 200, 65},
        {1100, 9, 33},
        {2, 1500, 70},
        // A power of two of rows, which lie a line of the cache further apart when they are turned.
        {256, 9, 33},
        {511, 70, 12},
        {512, 12, 70},
        {2048, 33, 9}})
    for (const bool with_bias : {false, true}) {
      CAPTURE(dtype, rows, in, out, with_bias);
      const auto x = trained({1, rows, in}), weight = trained({out, in}), bias = with_bias ? trained({out}) : Tensor();
      const auto x2 = twin_of(x), weight2 = twin_of(weight), bias2 = twin_of(bias);
      check_same(linear_kernel(x, weight, bias, dtype), at::linear(x2, weight2, bias2),
                 {{x, x2}, {weight, weight2}, {bias, bias2}}, dtype);
    }
}

TEST_CASE("kernels: a linear layer takes strided rows, and leaves out gradients that nobody wants") {
  NEEDS_KERNELS(at::kFloat);
  const auto whole = at::randn({5, 12, 3});
  const auto x = whole.transpose(1, 2), weight = trained({6, 12});  // rows whose numbers lie 3 apart
  const auto bias = at::randn({12}).slice(0, 0, 12, 2);             // likewise 2
  CHECK(at::allclose(linear_kernel(x, weight, bias, at::kFloat), at::linear(x.contiguous(), weight, bias), 1e-5, 1e-5));
  const auto output = linear_kernel(x, weight, {}, at::kFloat);
  CHECK(at::allclose(output, at::linear(x.contiguous(), weight), 1e-5, 1e-5));
  const FlopCounter counter;
  output.sum().backward();
  CHECK(counter.total() == 2 * 15 * 12 * 6);  // of the weight alone
}

TEST_CASE("kernels: a feed-forward network and its gradients equal the definition") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  NEEDS_KERNELS(dtype);
  at::manual_seed(2);
  for (const auto kind :
       {Activation::gelu, Activation::gelu_tanh, Activation::silu, Activation::relu, Activation::relu_squared})
    for (const bool gated : {false, true})
      for (const int64_t rows : {1, 67, 512}) {
        if (rows == 512 && kind == Activation::relu) continue;  // of so many some round to the other side of its bend
        CAPTURE(dtype, static_cast<int>(kind), gated, rows);
        const int64_t width = 33, inside = 71, columns = gated ? 2 * inside : inside;
        const auto x = trained({rows, width}), up = trained({columns, width}, 0.2), up_bias = trained({columns}),
                   down = trained({width, inside}, 0.2), down_bias = trained({width});
        const auto x2 = twin_of(x), up2 = twin_of(up), up_bias2 = twin_of(up_bias), down2 = twin_of(down),
                   down_bias2 = twin_of(down_bias);
        const auto hidden = at::linear(x2, up2, up_bias2);
        const auto active = gated
                                ? plain_activation(hidden.narrow(1, 0, inside), kind) * hidden.narrow(1, inside, inside)
                                : plain_activation(hidden, kind);
        check_same(feed_forward_kernel(x, up, up_bias, down, down_bias, kind, gated, dtype),
                   at::linear(active, down2, down_bias2),
                   {{x, x2}, {up, up2}, {up_bias, up_bias2}, {down, down2}, {down_bias, down_bias2}}, dtype);
      }
}

TEST_CASE(
    "kernels: a feed-forward network keeps nothing where nobody wants a gradient, and makes those that one wants") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  NEEDS_KERNELS(dtype);
  at::manual_seed(6);
  const auto x = at::randn({3, 65, 24}), up = at::randn({140, 24}), down = trained({24, 70}, 0.2);
  const auto network = [&](const Tensor& last) {
    return feed_forward_kernel(x, up, {}, last, {}, Activation::silu, true, dtype);
  };
  const auto output = network(down);
  CHECK(at::equal(network(down.detach()), output));
  {
    const at::NoGradGuard guard;
    CHECK(at::equal(network(down), output));
  }
  const FlopCounter counter;
  output.sum().backward();
  CHECK(counter.total() == 2 * 195 * 70 * 24);  // of the last weight alone
  const auto halves = at::linear(x, up).chunk(2, -1);
  const auto expected = (at::silu(halves[0]) * halves[1]).sum({0, 1}).expand({24, 70});
  CHECK(at::allclose(down.grad(), expected, dtype == at::kFloat ? 1e-4 : 0.05, dtype == at::kFloat ? 1e-3 : 2.0));
}

TEST_CASE("kernels: the same bits from call to call") {
  NEEDS_KERNELS(at::kFloat);
  const auto x = at::randn({2, 2, 150, 16}), weight = at::randn({40, 16});
  const auto gradient_of = [&] {
    const auto q = x.detach().clone().set_requires_grad(true), w = weight.detach().clone().set_requires_grad(true);
    linear_kernel(attention_kernel(q, x, x, {.ahead = 0}, 0, at::kFloat), w, {}, at::kFloat).square().sum().backward();
    return std::pair(q.grad(), w.grad());
  };
  const auto first = gradient_of(), second = gradient_of();
  CHECK(at::equal(first.first, second.first));
  CHECK(at::equal(first.second, second.second));
}

TEST_CASE("kernels: bfloat16 rounds as LibTorch does, ties and NaN too, but for numbers below the normal ones") {
  NEEDS_KERNELS(at::kFloat);
  const auto x = at::cat(
      {at::randn({1000}) * 1e3, at::tensor({1.00390625F, 1.01171875F, 0.F, -0.F, INFINITY, NAN, 3.4e38F, 1.2e-38F})});
  std::vector<Bits16> bits(static_cast<size_t>(x.numel()));
  vector_functions()->round(x.const_data_ptr<float>(), bits.data(), x.numel());
  const auto ours = at::from_blob(bits.data(), {x.numel()}, at::kBFloat16).to(at::kFloat);
  const auto rounded = x.to(at::kBFloat16).to(at::kFloat);
  const auto tidy = [](const Tensor& numbers) { return numbers.masked_fill(numbers.abs() < 1.2e-38, 0).nan_to_num(7); };
  CHECK(at::equal(tidy(ours), tidy(rounded)));
  CHECK(ours[1005].isnan().item<bool>());
  // Past the caches: from the start of a line of theirs and from elsewhere, lines filled and not.
  for (const auto& [first, count] : {std::pair(0, 960), std::pair(0, 1000), std::pair(3, 960)}) {
    alignas(64) std::array<Bits16, 1008> away{};
    vector_functions()->round_away(x.const_data_ptr<float>(), away.data() + first, count);
    CHECK(std::equal(away.begin() + first, away.begin() + first + count, bits.begin()));
    CHECK(away[static_cast<size_t>(first + count)] == 0);
  }
  // Two rows as pairs, of a length that fills no vector.
  const int64_t columns = 37;
  std::vector<Bits16> pairs(2 * columns + 1, 77);
  for (const bool with_odd : {true, false}) {
    vector_functions()->pair(bits.data(), with_odd ? bits.data() + 100 : nullptr, pairs.data(), columns);
    const auto woven = at::from_blob(pairs.data(), {columns, 2}, at::kBFloat16).to(at::kFloat);
    CHECK(at::equal(woven.select(1, 0), rounded.narrow(0, 0, columns)));
    CHECK(at::equal(woven.select(1, 1), rounded.narrow(0, 100, columns) * with_odd));
    CHECK(pairs.back() == 77);
  }
}

TEST_CASE("kernels: a feed-forward network has the same bits whether what it keeps fits the caches or not") {
  NEEDS_KERNELS(at::kBFloat16);
  // 2112 rows of 1024 numbers are put past the caches, half as many are not.
  const int64_t rows = 2112, half = rows / 2;
  const auto x = at::randn({rows, 16}).to(at::kBFloat16), up = at::randn({1024, 16}), down = at::randn({16, 1024}),
             upstream = at::randn({rows, 16}).to(at::kBFloat16);
  const auto of = [&](int64_t first, int64_t count) {
    const auto own = x.narrow(0, first, count).clone().set_requires_grad(true);
    const auto out = feed_forward_kernel(own, up, {}, down, {}, Activation::gelu, false, at::kBFloat16);
    return std::pair(out.detach(), torch::autograd::grad({out}, {own}, {upstream.narrow(0, first, count)})[0]);
  };
  const auto all = of(0, rows), first = of(0, half), second = of(half, half);
  CHECK(at::equal(all.first, at::cat({first.first, second.first})));
  CHECK(at::equal(all.second, at::cat({first.second, second.second})));
}

TEST_CASE("kernels: squares of a matrix and what they leave over are transposed") {
  NEEDS_KERNELS(at::kFloat);
  for (const auto& [rows, columns] : {std::pair(16, 16), std::pair(37, 53), std::pair(64, 33)}) {
    const auto in = at::randn({rows, columns + 3}), out = at::full({columns, rows + 2}, 7.F);
    vector_functions()->transpose(in.const_data_ptr<float>(), columns + 3, out.mutable_data_ptr<float>(), rows + 2,
                                  rows, columns);
    CHECK(at::equal(out.narrow(1, 0, rows), in.narrow(1, 0, columns).t()));
    CHECK(at::equal(out.narrow(1, rows, 2), at::full({columns, 2}, 7.F)));
  }
}

TEST_CASE("kernels: exponentials are right to 21 units of the last place, zero below normal numbers, infinite above") {
  NEEDS_KERNELS(at::kFloat);
  // By AVX2 they are LibTorch's exp_u20, which is zero a little before, and infinite as well.
  const bool by_avx2 = std::string(vector_functions()->instruction_set) == "avx2";
  const auto x = at::cat({at::linspace(by_avx2 ? -86.6 : -87.3, by_avx2 ? 88.3 : 88.7, 100001),
                          at::tensor({0.F, -88.F, -1e30F, NAN, 1e-30F, 88.8F, 100.F, 1e30F})});
  const auto ours = x.clone();
  vector_functions()->exponentials(ours.mutable_data_ptr<float>(), 0, ours.numel());
  const auto exact = x.to(at::kDouble).exp();
  const auto unit = (exact.log2().floor() - 23).exp2();  // of the last place
  CHECK(((ours - exact) / unit).narrow(0, 0, 100002).abs().max().item<double>() < 21);
  CHECK(ours[100001].item<float>() == 1);
  CHECK(at::equal(ours.narrow(0, 100002, 2), at::zeros({2})));
  CHECK(ours[100004].isnan().item<bool>());
  CHECK(ours[100005].item<float>() == 1);
  CHECK(at::equal(ours.narrow(0, 100006, 3), at::full({3}, INFINITY)));
}

TEST_CASE(
    "kernels: activations that are rounded next are right to two hundred-thousandths, very large ones and none too") {
  NEEDS_KERNELS(at::kBFloat16);
  constexpr int64_t columns = 64;
  const auto in = at::cat({at::linspace(-9, 9, 14 * columns - 6), at::tensor({0.F, -0.F, 1e12F, -1e12F, 1e-30F, NAN})})
                      .to(at::kBFloat16);
  const auto ones = at::ones_like(in);
  for (const auto kind :
       {Activation::gelu, Activation::gelu_tanh, Activation::silu, Activation::relu, Activation::relu_squared}) {
    CAPTURE(static_cast<int>(kind));
    const auto value = at::zeros({in.numel()}), slope = at::zeros({in.numel()});  // sums over one row are not rounded
    for (int64_t first = 0; first < in.numel(); first += columns) {
      auto gradient = at::ones({columns});
      const auto from = [&](const Tensor& x) {
        return reinterpret_cast<const Bits16*>(x.const_data_ptr<at::BFloat16>()) + first;
      };
      vector_functions()->activate_rows_backward(
          {.kind = kind,
           .rows = 1,
           .columns = columns,
           .in = from(in),
           .factor = from(ones),
           .gradient = gradient.mutable_data_ptr<float>(),
           .out = {},
           .stride = 0,
           .panels = {},
           .value_panel = nullptr,
           .sums = {slope.mutable_data_ptr<float>() + first, value.mutable_data_ptr<float>() + first}});
    }
    auto x = in.to(at::kDouble).requires_grad_();
    const auto exact = plain_activation(x, kind);
    exact.sum().backward();
    const auto off = [&](const Tensor& ours, const Tensor& theirs) {
      return ((ours - theirs).abs() / theirs.abs().clamp_min(1)).narrow(0, 0, in.numel() - 1).max().item<double>();
    };
    CHECK(off(value, exact) < 3e-6);
    CHECK(off(slope, x.grad()) < 2e-5);
    CHECK(value[-1].isnan().item<bool>());
    if (kind != Activation::relu) CHECK(slope[-1].isnan().item<bool>());
  }
}

TEST_CASE("kernels: activations of very large numbers are those numbers or nothing, with slopes one and zero") {
  NEEDS_KERNELS(at::kFloat);
  const auto x = at::tensor({100.F, 1e13F, 1e18F, -100.F, -1e13F, -1e18F, 1e37F, -1e37F});
  for (const auto kind : {Activation::gelu, Activation::gelu_tanh, Activation::silu}) {
    CAPTURE(static_cast<int>(kind));
    const int64_t count = kind == Activation::silu ? 8 : 6;  // GELU squares them
    const auto value = at::empty({count}), slope = at::ones({count});
    vector_functions()->activate_backward(kind, x.const_data_ptr<float>(), slope.mutable_data_ptr<float>(),
                                          value.mutable_data_ptr<float>(), count);
    CHECK(at::allclose(value, x.narrow(0, 0, count).clamp_min(0), 1e-6, 1e-30));
    CHECK(at::allclose(slope, (x.narrow(0, 0, count) > 0).to(at::kFloat), 1e-6, 1e-30));
  }
}

TEST_CASE("kernels: who takes part follows dtype, autocast and the switch") {
  const auto x = at::randn({9, 4}), weight = at::randn({3, 4});
  const Kernels on(true);
  if (!has_kernels(at::kFloat)) SKIP("this processor has no kernels");
  CHECK(product_dtype(x, weight) == at::kFloat);
  CHECK_FALSE(product_dtype(x.to(at::kDouble), weight.to(at::kDouble)));
  CHECK_FALSE(product_dtype(x.narrow(0, 0, 0), weight));
  {
    const ForwardPrecision precision("bfloat16");
    CHECK(product_dtype(x, weight) == (has_kernels(at::kBFloat16) ? std::optional(at::kBFloat16) : std::nullopt));
    if (has_kernels(at::kBFloat16)) CHECK(attnscale::linear(x, weight).scalar_type() == at::kBFloat16);
  }
  {
    const ForwardPrecision precision("float16");
    CHECK_FALSE(product_dtype(x, weight));
  }
  const Kernels off(false);
  CHECK_FALSE(product_dtype(x, weight));
  CHECK(kernels_in_use() == "none");
  CHECK(at::equal(attnscale::linear(x, weight), at::linear(x, weight)));
}
