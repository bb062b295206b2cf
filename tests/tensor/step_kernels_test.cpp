// The kernels of a training step besides its matrix products against the same definition in
// float64 by LibTorch's plain operators. Tolerances: float32 sums of some hundred terms, 1e-5 of the largest number;
// bfloat16 keeps 8 bits, of which a few roundings in a row take up to 4 %.

#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "tensor/kernels/adam_kernel.h"
#include "tensor/kernels/cross_entropy_kernel.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/norm_kernel.h"
#include "tensor/linear.h"

using namespace attnscale;

namespace {

bool switched_on() {
  set_kernels(true);
  return kernels_on();
}

#define NEEDS_STEP_KERNELS()       \
  const KernelsAsBefore as_before; \
  if (!switched_on()) SKIP("this processor has no kernels")

double most_off(at::ScalarType dtype) { return dtype == at::kFloat ? 1e-5 : 0.04; }

/// A leaf of a dtype, and the same numbers in float64.
struct Leaf {
  explicit Leaf(std::vector<int64_t> sizes, at::ScalarType dtype = at::kFloat, double shift = 0)
      : ours((at::randn(sizes) + shift).to(dtype).set_requires_grad(true)),
        exact(ours.detach().to(at::kDouble).set_requires_grad(true)) {}
  Leaf() = default;
  Tensor ours, exact;
};

/// Largest difference, as a part of the largest number of the exact side, however small that is, or of `least`.
double largest_difference(const Tensor& a, const Tensor& b, double least = 1e-30) {
  REQUIRE(a.sizes() == b.sizes());
  return ((a.to(at::kDouble) - b).abs().max() / b.abs().max().clamp_min(least)).item<double>();
}

void check_gradients(const std::vector<Leaf>& leaves, double most, double least = 1e-30) {
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].ours.defined()) continue;
    CAPTURE(i);
    REQUIRE(leaves[i].ours.grad().defined());
    CHECK(leaves[i].ours.grad().scalar_type() == leaves[i].ours.scalar_type());
    CHECK(largest_difference(leaves[i].ours.grad(), leaves[i].exact.grad(), least) < most);
  }
}

Tensor plain_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const NormKind& kind) {
  if (kind.centred) return at::layer_norm(x, {x.size(-1)}, weight, bias, kind.epsilon);
  return at::rms_norm(x, {x.size(-1)}, weight, kind.epsilon);
}

}  // namespace

TEST_CASE("step kernels: a norm, and the norm of a sum, equal the definition with their gradients") {
  NEEDS_STEP_KERNELS();
  at::manual_seed(1);
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const bool centred : {true, false})
      for (const bool joined : {true, false})
        for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {65, 33}, {130, 128}}) {
          CAPTURE(dtype, centred, joined, rows, width);
          const NormKind kind{.centred = centred, .epsilon = 1e-3};
          const Leaf x({1, rows, width}, at::kFloat, 0.5), weight(std::vector{width}),
              bias = centred ? Leaf(std::vector{width}) : Leaf();
          const Leaf added = joined ? Leaf({1, rows, width}, dtype) : Leaf();
          const auto ours = norm_kernel(x.ours, added.ours, weight.ours, bias.ours, kind, dtype);
          const auto sum = joined ? x.exact + added.exact : x.exact;
          const auto norm = plain_norm(sum, weight.exact, bias.exact, kind);
          CHECK(ours.norm.scalar_type() == dtype);
          CHECK(ours.stream.scalar_type() == at::kFloat);
          CHECK(largest_difference(ours.stream, sum) < 1e-6);
          CHECK(largest_difference(ours.norm, norm) < most_off(dtype));
          const auto of_stream = at::randn(sum.sizes(), at::kDouble), of_norm = at::randn(sum.sizes(), at::kDouble);
          ((ours.stream * of_stream.to(at::kFloat)).sum() + (ours.norm * of_norm.to(dtype)).sum().to(at::kFloat))
              .backward();
          ((sum * of_stream).sum() + (norm * of_norm).sum()).backward();
          // One number less its mean is zero, and so is its weight's gradient, up to float64's rounding.
          check_gradients({x, added, weight, bias}, most_off(dtype), centred && width == 1 ? 1 : 1e-30);
        }
}

TEST_CASE("step kernels: of a norm's stream or norm alone there are gradients, too") {
  NEEDS_STEP_KERNELS();
  for (const bool of_stream : {true, false}) {
    const Leaf x({5, 6}), added({5, 6}), weight(std::vector<int64_t>{6});
    const auto ours = norm_kernel(x.ours, added.ours, weight.ours, {}, {}, at::kFloat);
    (of_stream ? ours.stream : ours.norm).square().sum().backward();
    const auto sum = x.exact + added.exact;
    (of_stream ? sum : plain_norm(sum, weight.exact, {}, {})).square().sum().backward();
    check_gradients({x, added}, 1e-5);
    CHECK(weight.ours.grad().defined() == !of_stream);
  }
}

TEST_CASE("step kernels: who takes a norm follows dtype, shape and the switch") {
  NEEDS_STEP_KERNELS();
  const auto x = at::randn({2, 4}), weight = at::randn({4});
  CHECK(norm_has_kernel(x, {}, weight));
  CHECK(norm_has_kernel(x, x.to(at::kBFloat16), weight));
  CHECK_FALSE(norm_has_kernel(x, x.narrow(0, 0, 1), weight));
  CHECK_FALSE(norm_has_kernel(x.to(at::kDouble), {}, weight));
  set_kernels(false);
  CHECK_FALSE(norm_has_kernel(x, {}, weight));
}

TEST_CASE("step kernels: cross entropy with smoothing and z-loss equals the definition with its gradient") {
  NEEDS_STEP_KERNELS();
  at::manual_seed(2);
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const auto& [smoothing, z_loss] : {std::pair{0.0, 0.0}, {0.1, 0.0}, {0.0, 0.01}, {0.2, 0.05}})
      for (const auto& [rows, vocabulary] : {std::pair<int64_t, int64_t>{1, 2}, {67, 33}, {130, 100}})
        for (const bool counted : {false, true}) {
          CAPTURE(dtype, smoothing, z_loss, rows, vocabulary, counted);
          const Leaf logits({rows, vocabulary}, dtype);
          auto targets = at::randint(vocabulary, {rows}, at::kLong);
          if (rows > 1) targets[0] = -100;
          const auto count = counted ? at::scalar_tensor(12, at::kLong) : Tensor();
          const auto ours = cross_entropy_kernel(
              logits.ours, targets, {.label_smoothing = smoothing, .z_loss = z_loss, .ignored = -100}, count);
          const auto asked = targets.ne(-100);
          const auto logs = at::log_softmax(logits.exact, 1);
          const auto own = -logs.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1);
          const auto z = at::logsumexp(logits.exact, 1).square();
          const auto number = counted ? count : asked.sum();
          const auto exact = (((1 - smoothing) * own - smoothing * logs.mean(1) + z_loss * z) * asked).sum() / number;
          CHECK(largest_difference(ours.minimised, exact) < 1e-5);
          CHECK(largest_difference(ours.loss, (own * asked).sum() / number) < 1e-5);
          CHECK_FALSE(ours.loss.requires_grad());
          (ours.minimised * 3).backward();
          (exact * 3).backward();
          check_gradients({logits}, dtype == at::kFloat ? 1e-6 : 0.004);
        }
}

TEST_CASE("step kernels: a norm's backward pass writes into no gradient that somebody else has") {
  NEEDS_STEP_KERNELS();
  const auto x = at::randn({6, 8}), added = at::randn({6, 8}), weight = at::rand({8}) + 0.5;
  const auto whole = at::randn({2, 6, 8}), g = at::randn({6, 8}), h = at::randn({6, 8}), row = at::randn({8});
  const auto of_x = [&](const Tensor& of_stream, const Tensor& of_norm) {
    const auto leaf = x.clone().requires_grad_();
    const auto both = norm_kernel(leaf * 1, added, weight, {}, {}, at::kFloat);
    torch::autograd::backward({both.stream, both.norm}, {of_stream, of_norm});
    return leaf.grad();
  };
  for (const auto& given : {g, whole[0], row.expand({6, 8}), h}) {
    const auto before = given.clone(), everything = whole.clone();
    const auto held = of_x(given, h), expected = of_x(given.clone(), h.clone());
    CHECK(at::equal(held, expected));
    CHECK(at::equal(given, before));
    CHECK(at::equal(whole, everything));
  }
  const auto leaf = x.clone().requires_grad_();
  const auto both = norm_kernel(leaf * 1, added, weight, {}, {}, at::kFloat);
  const auto sum = (both.stream * g).sum() + (both.norm * h).sum();
  const auto caught = torch::autograd::grad({sum}, {both.stream, leaf});  // the stream's is somebody's, too
  CHECK(at::equal(caught[0], g));
  CHECK(at::allclose(caught[1], of_x(g, h), 1e-6, 1e-6));
}

TEST_CASE("step kernels: cross entropy of a batch of windows is that of their rows") {
  NEEDS_STEP_KERNELS();
  const auto logits = at::randn({3, 5, 7}).requires_grad_(), rows = logits.detach().flatten(0, 1).requires_grad_();
  const auto targets = at::randint(7, {3, 6}, at::kLong).narrow(1, 1, 5);  // with gaps
  const auto windows = cross_entropy_kernel(logits, targets, {}, {}).minimised;
  const auto expected = cross_entropy_kernel(rows, targets.reshape({-1}), {}, {}).minimised;
  windows.backward();
  expected.backward();
  CHECK(at::equal(windows, expected));
  CHECK(at::equal(logits.grad().flatten(0, 1), rows.grad()));
}

TEST_CASE("step kernels: cross entropy of numbers that are not finite, and of no target, is not finite") {
  NEEDS_STEP_KERNELS();
  for (const double bad : {NAN, INFINITY}) {
    auto logits = at::randn({3, 40});
    logits[1][35] = bad;
    const auto loss = [&](int64_t ignored) {
      return cross_entropy_kernel(logits, torch::tensor(std::vector<int64_t>{1, ignored, 2}), {}, {})
          .loss.item<double>();
    };
    CHECK(std::isnan(loss(3)));
    CHECK(std::isfinite(loss(-100)));
  }
  CHECK(std::isnan(cross_entropy_kernel(at::randn({1, 4}), torch::tensor({-100}), {}, {}).loss.item<double>()));
}

TEST_CASE("step kernels: cross entropy of a logit of minus infinity is the definition's, with every term and without") {
  NEEDS_STEP_KERNELS();
  constexpr double never = -INFINITY;
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const double z_loss : {0.0, 0.01}) {
      CAPTURE(dtype, z_loss);
      const Leaf logits({4, 40}, dtype);
      const torch::Tensor targets = torch::tensor({3, 0, 39, 7});
      const torch::NoGradGuard no_gradients;
      for (const auto& x : {logits.ours, logits.exact}) x[0][35] = never, x[2][0] = never, x[2][17] = never;
      const torch::AutoGradMode gradients(true);
      const auto ours = cross_entropy_kernel(logits.ours, targets, {.z_loss = z_loss}, {});
      const auto own = -at::log_softmax(logits.exact, 1).gather(1, targets.unsqueeze(1)).mean();
      const auto exact = own + z_loss * at::logsumexp(logits.exact, 1).square().mean();
      CHECK(std::isfinite(exact.item<double>()));
      CHECK(largest_difference(ours.minimised, exact) < 1e-5);
      CHECK(largest_difference(ours.loss, own) < 1e-5);
      ours.minimised.backward();
      exact.backward();
      check_gradients({logits}, dtype == at::kFloat ? 1e-6 : 0.004);
      CHECK(logits.ours.grad()[2][17].item<double>() == 0);
    }
  // Where the definition is infinite, so is the kernel's: the target itself, or what smoothing asks for, never comes.
  const auto terms_of = [&](const std::vector<float>& row, int64_t target, double smoothing) {
    const auto both = cross_entropy_kernel(torch::tensor(row).unsqueeze(0), torch::tensor({target}),
                                           {.label_smoothing = smoothing}, {});
    return std::pair{both.minimised.item<double>(), both.loss.item<double>()};
  };
  const float lowest = -INFINITY, highest = INFINITY, none = NAN;
  CHECK(terms_of({1, lowest, 2}, 1, 0) == std::pair<double, double>{INFINITY, INFINITY});
  const auto [smoothed, alone] = terms_of({1, lowest, 2}, 0, 0.1);
  CHECK(smoothed == INFINITY);
  CHECK(std::abs(alone - std::log1p(std::exp(1.0))) < 1e-5);  // -ln(e / (e + e^2))
  for (const float beside : {none, highest})
    for (const double smoothing : {0.0, 0.1}) {
      const auto [minimised, loss] = terms_of({1, lowest, beside}, 0, smoothing);
      CHECK(std::isnan(minimised));
      CHECK(std::isnan(loss));
    }
}

TEST_CASE("step kernels: AdamW with clipping equals LibTorch's, update for update") {
  NEEDS_STEP_KERNELS();
  at::manual_seed(3);
  for (const int64_t size : {1, 17, 8192, 20001}) {
    CAPTURE(size);
    const auto start = at::randn({size});
    const auto state = [&] { return std::vector<Tensor>{start.clone(), at::zeros({size}), at::zeros({size})}; };
    auto ours = state(), plain = state();
    for (int64_t step = 1; step <= 5; ++step) {
      const auto gradient = at::randn({size}), kept = gradient.clone();
      adamw_kernel({{ours[0], gradient, ours[1], ours[2]}},
                   {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .step = step}, 0.01, 0.1, 0.3);
      CHECK(at::equal(gradient, kept));
      at::_fused_adamw_({plain[0]}, {gradient * 0.3}, {plain[1]}, {plain[2]}, {}, {at::scalar_tensor(step, at::kFloat)},
                        0.01, 0.9, 0.95, 0.1, 1e-8, false, false);
    }
    // Some roundings of 6e-8 each in a number of the order of 1, five times.
    for (size_t i = 0; i < 3; ++i) CHECK((ours[i] - plain[i]).abs().max().item<double>() < 2e-6);
  }
}

TEST_CASE("step kernels: the norm of all gradients is that of their concatenation") {
  NEEDS_STEP_KERNELS();
  const std::vector<Tensor> all = {at::randn({3, 5}), at::randn({20001}), at::randn({0}), at::randn({8192})};
  std::vector<Tensor> flat;
  for (const auto& one : all) flat.push_back(one.flatten().to(at::kDouble));
  const double exact = at::cat(flat).norm().item<double>();
  CHECK(std::abs(norm_of_all(all) - exact) < 1e-6 * exact);
  CHECK(std::isnan(norm_of_all({all[0], at::full({2}, NAN)})));
  CHECK(std::abs(norm_of_all({at::full({4}, 1e30F)}) / 2e30 - 1) < 1e-6);  // squares beyond float32
  CHECK(std::abs(norm_of_all({at::full({4}, 1e-30F)}) / 2e-30 - 1) < 1e-6);
}
