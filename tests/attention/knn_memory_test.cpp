// What the conformance run cannot know about attention to stored neighbours: a planted fact is found.

#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"

using namespace attnscale;

TEST_CASE("knn_memory: one neighbour is enough to recall a planted pair from far before the segment") {
  // Keys are noise of size 1 but for position 3, which is 20 times a unit vector; the last query is the same vector
  // twentyfold. Its score is 400 / sqrt(16) = 100, the others' below 20 * 4 / 4 = 20: weight 1 - e^-80.
  torch::manual_seed(4);
  constexpr int64_t positions = 300;
  auto query = torch::randn({1, 1, positions, 16}, torch::kFloat64), key = torch::randn_like(query);
  auto value = torch::randn_like(query);
  const auto direction = torch::randn({16}, torch::kFloat64);
  const auto planted = direction / direction.norm() * 20;
  key[0][0][3] = planted;
  query[0][0][positions - 1] = planted;
  const auto attention =
      variant_named("knn_memory")
          .make({{"segment", 32}, {"neighbours", 1}}, {.head_dim = 16, .value_dim = 16, .context = positions});
  const auto output = attention->forward({.query = query, .key = key, .value = value});
  CHECK((output[0][0][positions - 1] - value[0][0][3]).abs().max().item<double>() < 1e-12);
}
