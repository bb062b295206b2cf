#include "tensor/kernels/embedding_kernel.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/torch.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "core/error.h"
#include "tensor/kernel_checks.h"

using namespace attnscale;
using namespace attnscale::kernel_checks;
using torch::Tensor;

TEST_CASE("embedding kernel: outputs and gradients are those of float64, with positions and without") {
  NEEDS_KERNELS(at::kFloat);
  const int64_t width = GENERATE(1, 37, 200);
  const bool with_positions = GENERATE(true, false);
  const double scale = GENERATE(1.0, 3.5);
  CAPTURE(width, with_positions, scale);
  const auto tokens = at::randint(11, {3, 5}, at::kLong);
  const auto token = trained({13, width}), position = with_positions ? trained({9, width}) : Tensor();
  const auto token_twin = twin_of(token), position_twin = twin_of(position);
  const int64_t offset = with_positions ? 2 : 0;
  auto expected = at::embedding(token_twin, tokens) * scale;
  if (with_positions) expected = expected + position_twin.narrow(0, offset, 5);
  std::vector<std::pair<Tensor, Tensor>> inputs = {{token, token_twin}};
  if (with_positions) inputs.push_back({position, position_twin});
  check_same(embedding_kernel(tokens, token, scale, position, offset), expected, inputs, at::kFloat);
}

TEST_CASE("embedding kernel: bits do not depend on the threads") {
  NEEDS_KERNELS(at::kFloat);
  const auto tokens = at::randint(7, {16, 64}, at::kLong);
  const auto token = trained({7, 256}), position = trained({64, 256}), upstream = at::randn({16, 64, 256});
  const auto gradients = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    const auto result =
        torch::autograd::grad({embedding_kernel(tokens, token, 2, position, 0)}, {token, position}, {upstream});
    at::set_num_threads(before);
    return result;
  };
  const auto one = gradients(1), two = gradients(2);
  CHECK(at::equal(one[0], two[0]));
  CHECK(at::equal(one[1], two[1]));
}

TEST_CASE("embedding kernel: a token or a position outside its table is refused, a second derivative too") {
  NEEDS_KERNELS(at::kFloat);
  const auto token = trained({4, 8}), position = trained({4, 8});
  CHECK_THROWS_AS(embedding_kernel(at::full({1, 2}, 4, at::kLong), token, 1, {}, 0), c10::IndexError);
  CHECK_THROWS_AS(embedding_kernel(at::full({1, 2}, -1, at::kLong), token, 1, {}, 0), c10::IndexError);
  CHECK_THROWS_AS(embedding_kernel(at::zeros({1, 2}, at::kLong), token, 1, position, 3), c10::Error);
  CHECK_THROWS_AS(embedding_kernel(at::zeros({1, 2}, at::kLong), token, 1, position, -1), c10::Error);
  const auto out = embedding_kernel(at::zeros({1, 2}, at::kLong), token, 1, position, 2);
  CHECK_THROWS_AS(torch::autograd::grad({out.sum()}, {token}, {}, true, true), NumericsError);
  CHECK_FALSE(embedding_has_kernel(at::zeros({1, 2}, at::kLong), token.to(at::kDouble), {}));
  CHECK_FALSE(embedding_has_kernel(at::zeros({1, 2}, at::kInt), token, {}));
}
