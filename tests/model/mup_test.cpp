// The maximal update parametrisation against the same model with its factors written into the weights. What it does to
// the best learning rate, `attnscale coordinates` and experiments/learning-rate-width show.

#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include <ATen/Functions.h>

#include "model/largest.h"
#include "model/random_model.h"
#include "model/small_model.h"
#include "model/transformer.h"

using namespace attnscale;

TEST_CASE("transformer: muP divides by m what matrices and the head read, and attention's logits by its root") {
  // The same numbers: weights m times as large, embeddings of the head apart and m times as large, queries sqrt(m).
  const auto mup_options = small_options({.tie_embeddings = false, .mup_base_dim = 4});  // m = 3
  const auto mup = random_model(mup_options);
  const auto plain = random_model(small_options({.tie_embeddings = false}));
  const torch::NoGradGuard guard;
  auto target = plain->named_parameters();
  for (const auto& item : mup->named_parameters()) {
    auto& ours = target[item.key()];
    ours.copy_(item.value());
    const bool hidden = item.key().starts_with("blocks.") && item.value().dim() == 2;
    if (hidden || item.key() == "head.weight") ours.div_(3);
    if (item.key().find("qkv") != std::string::npos) ours.narrow(0, 0, 12).div_(std::sqrt(3.0));
  }
  const auto tokens = some_tokens(2, 7);
  CHECK(largest(mup->forward(tokens) - plain->forward(tokens)) < 1e-12);
}

TEST_CASE("transformer: muP leaves attention's logits where a wider model has more heads, not wider ones") {
  // A base of one head of 4 numbers, and three such heads here.
  const auto mup = random_model(small_options({.tie_embeddings = false, .mup_base_dim = 4, .mup_base_heads = 1}));
  const auto plain = random_model(small_options({.tie_embeddings = false}));
  const torch::NoGradGuard guard;
  auto target = plain->named_parameters();
  for (const auto& item : mup->named_parameters()) {
    auto& ours = target[item.key()];
    ours.copy_(item.value());
    if ((item.key().starts_with("blocks.") && item.value().dim() == 2) || item.key() == "head.weight") ours.div_(3);
  }
  const auto tokens = some_tokens(2, 7);
  CHECK(largest(mup->forward(tokens) - plain->forward(tokens)) < 1e-12);
}

TEST_CASE("transformer: at its base width muP is the standard parametrisation, bit for bit") {
  auto at_base = small_options();
  at_base.mup_base_dim = 12;  // which `resolved` would drop
  Transformer mup(at_base, {}, 8, 0), plain(small_options(), {}, 8, 0);
  const auto tokens = some_tokens(2, 8);
  CHECK(at::equal(mup.forward(tokens), plain.forward(tokens)));
}
