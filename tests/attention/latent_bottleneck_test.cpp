#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

std::shared_ptr<Attention> bottleneck(Json options) {
  const Geometry geometry{
      .num_heads = 2, .num_kv_heads = 2, .head_dim = 4, .value_dim = 3, .causal = false, .model_dim = 8};
  return Case{.variant = "latent_bottleneck", .options = std::move(options), .geometry = geometry}.build();
}

Tensor stream(int64_t positions) {
  torch::manual_seed(3);
  return torch::randn({2, 1, positions, 8}, torch::kFloat64);
}

}  // namespace

TEST_CASE("latent_bottleneck: reordering the positions reorders the outputs, as in a set transformer") {
  const auto attention = bottleneck({{"latents", 3}});
  const auto x = stream(9);
  const auto order = torch::tensor(std::vector<int64_t>{4, 8, 0, 2, 7, 1, 3, 6, 5});
  const auto reordered = attention->forward({.hidden = x.index_select(2, order)});
  CHECK(largest_difference(reordered, attention->forward({.hidden = x}).index_select(2, order)) < double_rounding);
}

TEST_CASE("latent_bottleneck: one latent tells every position the same") {
  // A softmax over one latent is 1, so that the query is without influence; the latent itself depends on the input.
  const auto attention = bottleneck({{"latents", 1}});
  const auto x = stream(7);
  const auto y = attention->forward({.hidden = x});
  CHECK(largest_difference(y, y.narrow(2, 0, 1).expand_as(y)) < double_rounding);
  CHECK(largest_difference(y[0], y[1]) > 0.01);
}
