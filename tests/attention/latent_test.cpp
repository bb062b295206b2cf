// What the conformance run cannot know about latent attention: what its state holds, and where positions come from.

#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"

using namespace attnscale;

namespace {

std::shared_ptr<Attention> latent(const Json& options, const Geometry& geometry) {
  torch::manual_seed(7);
  auto attention = variant_named("latent").make(options, geometry);
  attention->to(torch::kFloat64);
  const torch::NoGradGuard guard;
  for (auto& parameter : attention->parameters()) parameter.normal_(0, 0.5);
  return attention;
}

}  // namespace

TEST_CASE("latent: the state holds kv_rank + rotary_dim numbers per position, however many heads there are") {
  for (const int64_t heads : {1, 8}) {
    const Geometry geometry{.num_heads = heads, .num_kv_heads = heads, .head_dim = 6, .value_dim = 5, .model_dim = 12};
    const auto attention = latent({{"kv_rank", 10}, {"rotary_dim", 4}}, geometry);
    auto state = attention->new_state(2, torch::kFloat64);
    attention->decode({.hidden = torch::randn({2, 1, 7, 12}, torch::kFloat64)}, state);
    CHECK(state.bytes() == 2 * 7 * (10 + 4) * 8);
  }
}

TEST_CASE("latent: left out, the widths are the paper's: four heads' and half a head's") {
  const Geometry geometry{.num_heads = 4, .num_kv_heads = 4, .head_dim = 10, .value_dim = 10, .model_dim = 12};
  const auto state = latent(Json::object(), geometry)->new_state(1, torch::kFloat64);
  CHECK(state.tensors.at("latent").size(3) == 40);
  CHECK(state.tensors.at("rotary_key").size(3) == 6);  // 5, rounded up to even
}

TEST_CASE("latent: positions come from the rotary numbers alone") {
  // Bidirectional and without them, reversing the sequence reverses the outputs.
  const Geometry geometry{
      .num_heads = 2, .num_kv_heads = 2, .head_dim = 6, .value_dim = 5, .causal = false, .model_dim = 12};
  const auto hidden = torch::randn({1, 1, 9, 12}, torch::kFloat64);
  for (const int64_t rotary : {0, 4}) {
    const auto attention = latent({{"rotary_dim", rotary}}, geometry);
    const auto difference =
        attention->forward({.hidden = hidden.flip(2)}).flip(2) - attention->forward({.hidden = hidden});
    const double largest = difference.abs().max().item<double>();
    if (rotary == 0) CHECK(largest < 1e-12);  // sums of 9 terms in another order
    else CHECK(largest > 1e-3);
  }
}
