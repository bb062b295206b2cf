#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "seen_keys.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("block_top_k: a query reads the block whose mean key it points at") {
  // Blocks of 4; block 2 alone has keys along the query. The last query (block 5) sees it and its own block.
  const int64_t t = 24;
  auto key = torch::zeros({1, 1, t, 2}, torch::kFloat64);
  key.narrow(2, 8, 4).select(3, 0).fill_(1e-9);  // enough to be chosen, too little to change the weights
  auto query = torch::zeros({1, 1, t, 2}, torch::kFloat64);
  query.select(3, 0).fill_(1);
  const auto unit = torch::eye(t, torch::kFloat64).view({1, 1, t, t});
  const Geometry geometry{.head_dim = 2, .value_dim = t, .context = t};
  const auto attention = variant_named("block_top_k").make({{"block", 4}, {"top_blocks", 2}}, geometry);
  const auto last = attention->forward({.query = query, .key = key, .value = unit})[0][0][t - 1];
  Seen seen;
  for (int64_t i = 0; i < t; ++i)
    if (last[i].item<double>() > 0) seen.push_back(i);
  CHECK(seen == Seen{8, 9, 10, 11, 20, 21, 22, 23});
}

TEST_CASE("block_top_k: pairs computed are those chosen, and at most a tile for each block more") {
  const auto cost = [](int64_t t) {
    return variant_named("block_top_k").cost({{"block", 64}, {"top_blocks", 4}}, {.context = t}, {1, t, t});
  };
  for (const int64_t t : {1024, 4096, 16384}) {
    const double attended = 2.0 * 32 * static_cast<double>(t * 64) * (4 + 1);  // 4 blocks each, and a tile of waste
    const double gate = 2.0 * 16 * static_cast<double>(t * t / 64);
    CHECK(cost(t).executed_flops <= attended + gate);
  }
}

TEST_CASE("block_top_k: ragged choices, padding and grouped heads give the oracle's outputs and gradients") {
  for (const bool causal : {true, false})
    for (const int64_t positions : {5, 37, 64}) {
      const Case test{
          .variant = "block_top_k",
          .options = {{"block", 6}, {"top_blocks", 4}},
          .geometry = {
              .num_heads = 6, .num_kv_heads = 2, .head_dim = 4, .value_dim = 3, .context = 64, .causal = causal}};
      check_oracle(test, test.inputs(positions));
      check_oracle(test, test.inputs(positions, positions, true));
    }
}
