#include <catch2/catch_test_macros.hpp>

#include <ATen/ops/linear.h>

#include "attention/registry.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

constexpr int64_t lsh_width = 12;  // M

Tensor lsh_hidden(int64_t positions) {
  torch::manual_seed(5);
  return torch::randn({1, 1, positions, lsh_width}, torch::kFloat64);
}

Geometry lsh_geometry(bool causal) {
  return {.num_heads = 2,
          .num_kv_heads = 2,
          .head_dim = 6,
          .value_dim = 6,
          .context = 64,
          .causal = causal,
          .model_dim = lsh_width};
}

}  // namespace

TEST_CASE("lsh: one bucket and a window of all is softmax over shared queries and keys, the own position apart") {
  for (const bool causal : {true, false}) {
    const Case test{.variant = "lsh",
                    .options = {{"buckets", 1}, {"rounds", 2}, {"window", 128}},
                    .geometry = lsh_geometry(causal)};
    const auto attention = test.build();
    const auto hidden = lsh_hidden(40);
    const auto weight = attention->named_parameters();
    const auto heads = [&](const char* name) {
      return at::linear(hidden.squeeze(1), weight[name]).view({1, 40, 2, 6}).transpose(1, 2);
    };
    const auto query = heads("shared.weight"), key = query / query.norm(2, -1, true);
    auto logits = query.matmul(key.mT()) / std::sqrt(6.0);
    auto hide = torch::eye(40, torch::kBool);
    if (causal) hide = hide.logical_or(torch::ones({40, 40}, torch::kBool).triu(1));
    hide[0][0] = causal ? false : true;  // alone, it sees itself
    const auto attended = torch::softmax(logits.masked_fill(hide, -INFINITY), -1).matmul(heads("value.weight"));
    const auto expected = at::linear(attended.transpose(1, 2).flatten(2), weight["output.weight"]).unsqueeze(1);
    CHECK(largest_difference(attention->forward({.hidden = hidden}), expected) < double_rounding);
  }
}

TEST_CASE("lsh: more rounds come nearer to attention over everything") {
  // Means over 20 draws of the directions; softmax over all is one bucket.
  const auto hidden = lsh_hidden(64) * 2;
  const auto output = [&](const Json& options) {
    return Case{.variant = "lsh", .options = options, .geometry = lsh_geometry(false)}.build()->forward(
        {.hidden = hidden});
  };
  const auto full = output({{"buckets", 1}, {"rounds", 1}, {"window", 128}});
  const auto error = [&](int64_t rounds) {
    double sum = 0;
    for (int64_t seed = 0; seed < 20; ++seed)
      sum +=
          (output({{"buckets", 8}, {"rounds", rounds}, {"window", 128}, {"seed", seed}}) - full).norm().item<double>();
    return sum / 20;
  };
  const double one = error(1), two = error(2), eight = error(8);
  CHECK(two < 0.9 * one);
  CHECK(eight < 0.5 * one);
}

TEST_CASE("lsh: near vectors share a bucket more often than far ones") {
  // Two planted copies among random positions: the later copy sees the earlier one.
  auto hidden = lsh_hidden(64);
  hidden.select(2, 60).copy_(hidden.select(2, 7) * 1.01);
  hidden.requires_grad_();
  const Case test{.variant = "lsh", .options = {{"buckets", 32}, {"rounds", 1}}, .geometry = lsh_geometry(true)};
  const auto output = test.build()->forward({.hidden = hidden}).select(2, 60).sum();
  const auto slope = torch::autograd::grad({output}, {hidden})[0].abs().amax(3).flatten();  // [T]
  CHECK(slope[7].item<double>() > 0);
  CHECK(slope.gt(0).sum().item<int64_t>() < 32);  // of 64: most others are elsewhere
}
