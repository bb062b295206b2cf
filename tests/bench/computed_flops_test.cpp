#include "bench/computed_flops.h"

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "tensor/kernels/kernels.h"
#include "tensor/kernels/linear_kernel.h"

using namespace attnscale;
using Catch::Matchers::WithinRel;

TEST_CASE("computed flops: of LibTorch's causal attention the pairs that are seen, of other products all") {
  const auto x = at::randn({2, 3, 5, 8});
  const auto work = [&] {
    at::mm(at::ones({3, 4}), at::ones({4, 5}));
    at::scaled_dot_product_attention(x, x, x, {}, 0.0, /*is_causal=*/true);
  };
  // 2 * 3 heads, 15 of 5 * 5 pairs, scores and weighted values.
  CHECK_THAT(computed_flops(work), WithinRel(2.0 * 3 * 4 * 5 + 2.0 * 3 * 15 * 2 * (8 + 8), 1e-12));
}

TEST_CASE("computed flops: a kernel counts once, by its tiles, and what others multiplied before does not") {
  const KernelsAsBefore as_before;
  set_kernels(true);
  if (!has_kernels(at::kFloat)) SKIP("no kernels for this processor");
  const at::NoGradGuard no_gradients;
  const auto x = at::randn({10, 8}), weight = at::randn({6, 8});
  const auto work = [&] { linear_kernel(x, weight, {}, at::kFloat); };
  work();
  CHECK(computed_flops(work) == 2 * 10 * 8 * 6);
}
