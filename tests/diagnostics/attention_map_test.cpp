#include "diagnostics/attention_map.h"

#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"

// H = 4 heads, G = 2 key-value heads, T = 70 positions (past one group of copies), D = E = 8

using namespace attnscale;

namespace {

constexpr int64_t length = 70;
const Geometry grouped{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8, .context = length};

Inputs drawn(const Geometry& g) {
  torch::manual_seed(3);
  const auto draw = [](int64_t heads, int64_t width) {
    return torch::randn({1, heads, length, width}, torch::kFloat64);
  };
  return {.query = draw(g.num_heads, g.head_dim),
          .key = draw(g.num_kv_heads, g.head_dim),
          .value = draw(g.num_kv_heads, g.value_dim)};
}

double worst(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

/// [H, T, T] logits of every query and key.
Tensor products(const Inputs& in) { return at::matmul(in.query, in.key.repeat_interleave(2, 1).mT())[0]; }

}  // namespace

TEST_CASE("implied attention: softmax's map is its softmax") {
  const auto in = drawn(grouped);
  const auto& info = variant_named("softmax");
  const auto attention = info.make(info.resolve(Json::object()), grouped);
  const auto hidden = torch::ones({length, length}, torch::kBool).triu(1);
  const auto expected = (products(in) / std::sqrt(8.0)).masked_fill(hidden, -INFINITY).softmax(-1);
  // Float64 products of 8 numbers, and a softmax over 70.
  CHECK(worst(implied_attention(*attention, in), expected) < 1e-13);
}

TEST_CASE("implied attention: linear attention's map is its normalised kernel") {
  const auto in = drawn(grouped);
  const auto& info = variant_named("linear");
  const auto attention = info.make(info.resolve(Json::object()), grouped);
  Inputs mapped = in;
  mapped.query = at::elu(in.query) + 1;
  mapped.key = at::elu(in.key) + 1;
  const auto kernel = products(mapped).tril();
  const auto expected = kernel / (kernel.sum(-1, true) + 1e-6);
  CHECK(worst(implied_attention(*attention, in), expected) < 1e-13);
}

TEST_CASE("implied attention: a variant that owns its projections shows influence, and none of the future") {
  const auto& info = variant_named("mamba2");
  Geometry g{.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8, .context = length, .model_dim = 16};
  const auto attention = info.make(info.resolve(Json::object()), g);
  attention->to(torch::kFloat64);
  torch::manual_seed(4);
  const Inputs in{.hidden = torch::randn({1, 1, length, 16}, torch::kFloat64)};
  const auto map = implied_attention(*attention, in, 2);
  CHECK(map.sizes() == at::IntArrayRef{1, length, length});
  CHECK(map[0].triu(1).abs().max().item<double>() == 0);
  CHECK(map[0].diagonal().min().item<double>() > 0);
}

TEST_CASE("attention statistics: uniform and diagonal maps have known numbers") {
  auto uniform = torch::ones({16, 16}, torch::kFloat64).tril();
  uniform = uniform / uniform.sum(1, true);
  const auto diagonal = torch::eye(16, torch::kFloat64);
  const auto statistics = attention_statistics(at::stack({uniform, diagonal, -diagonal}));
  double entropy = 0, distance = 0;
  for (int t = 1; t < 16; ++t) entropy += std::log(t + 1.0) / 15, distance += t / 2.0 / 15;
  CHECK(statistics.entropy[0] == Catch::Approx(entropy));
  CHECK(statistics.share_of_limit[0] == Catch::Approx(1));
  CHECK(statistics.distance[0] == Catch::Approx(distance));
  CHECK(statistics.entropy[1] == Catch::Approx(0).margin(1e-12));
  CHECK(statistics.to_itself[1] == 1);
  CHECK(statistics.to_first[1] == 0);
  CHECK(statistics.rank[1] == Catch::Approx(16));
  CHECK(statistics.negative[1] == 0);
  CHECK(statistics.negative[2] == 1);
}

TEST_CASE("attention map: without causality every row counts, and distances go both ways") {
  const auto uniform = at::full({1, 4, 4}, 0.25, torch::kFloat64);
  const auto statistics = attention_statistics(uniform, /*causal=*/false);
  CHECK(std::abs(statistics.share_of_limit[0] - 1) < 1e-12);
  CHECK(std::abs(statistics.entropy[0] - std::log(4.0)) < 1e-12);
  CHECK(std::abs(statistics.distance[0] - (6 + 4 + 4 + 6) / 16.0) < 1e-12);  // 0 + 1 + 2 + 3, 1 + 0 + 1 + 2, ..
}
