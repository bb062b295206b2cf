#include "tensor/kernels/embedding_kernel.h"

#include <ATen/Parallel.h>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "tensor/kernel_checks.h"

using namespace attnscale;
using namespace attnscale::kernel_checks;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("kernels: embedding is PyTorch's rows and their sum, for odd widths, repeated tokens and an offset") {
  NEEDS_KERNELS(at::kFloat);
  for (const auto& [vocabulary, width, batch, length, context, offset] :
       {std::tuple{int64_t{65}, int64_t{128}, int64_t{12}, int64_t{64}, int64_t{64}, int64_t{0}},
        {7, 33, 3, 11, 20, 9},
        {1, 1, 1, 1, 1, 0},
        {300, 200, 2, 5, 9, 1}})
    for (const bool with_position : {true, false}) {
      CAPTURE(vocabulary, width, with_position);
      const auto token = trained({vocabulary, width}), token_twin = twin_of(token);
      const auto position = with_position ? trained({context, width}) : Tensor(), position_twin = twin_of(position);
      const auto tokens = at::randint(vocabulary, {batch, length + 1}, at::kLong).narrow(1, 1, length);  // with gaps
      auto expected = at::embedding(token_twin, tokens);
      if (with_position) expected = expected + position_twin.narrow(0, offset, length);
      check_same(embedding_kernel(token, position, tokens, offset), expected,
                 {{token, token_twin}, {position, position_twin}}, at::kFloat);
    }
}

TEST_CASE("kernels: an embedding's gradients are the same bits on any number of threads") {
  NEEDS_KERNELS(at::kFloat);
  const auto tokens = at::randint(5, {6, 40}, at::kLong);
  const auto upstream = at::randn({6, 40, 200}), start = at::randn({5, 200}), places = at::randn({40, 200});
  const int threads = at::get_num_threads();
  std::vector<Tensor> seen;
  for (const int many : {1, 3}) {
    at::set_num_threads(many);
    const auto token = start.clone().requires_grad_(), position = places.clone().requires_grad_();
    const auto out = embedding_kernel(token, position, tokens, 0);
    out.backward(upstream);
    seen.insert(seen.end(), {out.detach(), token.grad(), position.grad()});
  }
  at::set_num_threads(threads);
  for (size_t i = 0; i < 3; ++i) CHECK(at::equal(seen[i], seen[i + 3]));
}

TEST_CASE("kernels: an embedding refuses tokens that are none, and positions past the table") {
  NEEDS_KERNELS(at::kFloat);
  const auto token = at::randn({5, 8}), position = at::randn({4, 8});
  for (const int64_t wrong : {-1, 5})
    CHECK_THROWS_WITH(embedding_kernel(token, position, at::full({1, 2}, wrong, at::kLong), 0),
                      ContainsSubstring("expected one of [0, 5)"));
  auto many = at::zeros({40, 20}, at::kLong);  // several blocks, on several threads
  many[39][19] = 5;
  const int threads = at::get_num_threads();
  at::set_num_threads(3);
  CHECK_THROWS_WITH(embedding_kernel(token, {}, many, 0), ContainsSubstring("token 5"));
  at::set_num_threads(threads);
  CHECK_THROWS_WITH(embedding_kernel(token, position, at::zeros({1, 3}, at::kLong), 2),
                    ContainsSubstring("2 + 3 rows"));
  CHECK_THROWS_WITH(embedding_kernel(token, {}, at::zeros({1, 3}), 0), ContainsSubstring("int64 [B, T]"));
}
