#include "attention/masks.h"

#include <cmath>

#include <ATen/ops/equal.h>
#include <torch/csrc/autograd/autograd.h>
#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {

Tensor mask_of(std::vector<std::vector<int>> rows) {
  std::vector<int64_t> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  return torch::tensor(flat).view({static_cast<int64_t>(rows.size()), -1}).to(torch::kBool);
}

}  // namespace

TEST_CASE("causal mask: the newest query stands at the newest key") {
  CHECK(at::equal(causal_mask(3, 3), mask_of({{1, 0, 0}, {1, 1, 0}, {1, 1, 1}})));
  CHECK(at::equal(causal_mask(2, 4), mask_of({{1, 1, 1, 0}, {1, 1, 1, 1}})));
  CHECK(at::equal(causal_mask(3, 2), mask_of({{0, 0}, {1, 0}, {1, 1}})));
}

TEST_CASE("causal pairs are the ones of the mask") {
  for (const auto& [queries, keys] : {std::pair{1, 1}, {4, 4}, {2, 5}, {5, 2}})
    CHECK(causal_pairs(queries, keys) == causal_mask(queries, keys).sum().item<double>());
}

TEST_CASE("visible keys join a mask with padding, and are undefined when all is visible") {
  CHECK_FALSE(visible_keys({}, {}).defined());
  CHECK(visible_keys(causal_mask(2, 2), {}).dim() == 2);
  const auto joined = visible_keys(causal_mask(2, 2), mask_of({{0, 1}, {1, 1}}));  // [B, 1, T, S]
  CHECK(at::equal(joined[0][0], mask_of({{0, 0}, {0, 1}})));
  CHECK(at::equal(joined[1][0], mask_of({{1, 0}, {1, 1}})));
}

TEST_CASE("softmax attention: a query without keys gives zeros and sends no gradient, by either kernel") {
  // Value width 8 takes the fused kernel, 7 the one that keeps its scores.
  for (const int64_t value_dim : {8, 7}) {
    torch::manual_seed(1);
    const auto options = torch::dtype(torch::kFloat64).requires_grad(true);
    const auto query = torch::randn({1, 2, 3, 8}, options), key = torch::randn({1, 2, 4, 8}, options);
    const auto value = torch::randn({1, 2, 4, value_dim}, options);
    const auto visible = mask_of({{1, 0, 1, 0}, {0, 0, 0, 0}, {1, 0, 0, 0}});
    const auto output = softmax_attention(query, key, value, false, visible);
    CHECK(output.select(2, 1).abs().max().item<double>() == 0);
    CHECK(at::equal(output.select(2, 2), value.select(2, 0)));  // a single key has weight 1
    const auto gradients = torch::autograd::grad({output.sum()}, {query, key, value});
    for (const auto& gradient : gradients) CHECK(gradient.isfinite().all().item<bool>());
    CHECK(gradients[0].select(2, 1).abs().max().item<double>() == 0);
    for (const int64_t hidden : {1, 3}) {
      CHECK(gradients[1].select(2, hidden).abs().max().item<double>() == 0);
      CHECK(gradients[2].select(2, hidden).abs().max().item<double>() == 0);
    }
  }
}

TEST_CASE("repeat heads: neighbouring query heads share a key head") {
  const auto grouped = torch::arange(2).view({1, 2, 1, 1});
  CHECK(at::equal(repeat_heads(grouped, 4).flatten(), torch::tensor({0, 0, 1, 1})));
  CHECK(repeat_heads(grouped, 2).is_same(grouped));
}
