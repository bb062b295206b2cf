// What the conformance run cannot know about softmax attention: numbers worked out by hand, and
// which kernel runs.

#include <cmath>

#include <ATen/ops/equal.h>
#include <torch/csrc/autograd/autograd.h>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "core/error.h"
#include "tensor/flop_counter.h"
#include "tensor/kernels/kernels.h"

using namespace attnscale;
using Catch::Approx;

namespace {

std::shared_ptr<Attention> softmax(const Geometry& geometry) {
  return variant_named("softmax").make(Json::object(), geometry);
}

Tensor column(std::vector<double> numbers) {
  return torch::tensor(numbers, torch::kFloat64).view({1, 1, static_cast<int64_t>(numbers.size()), 1});
}

}  // namespace

TEST_CASE("softmax: two keys, by hand") {
  // Scores q k / sqrt(1) are 0 and ln 3: weights 1/4 and 3/4, output 1/4 * 1 + 3/4 * 5 = 4.
  const Inputs inputs{.query = column({1, 1}), .key = column({0, std::log(3.0)}), .value = column({1, 5})};
  const auto causal = softmax({.head_dim = 1, .value_dim = 1, .causal = true})->forward(inputs).flatten();
  CHECK(causal[0].item<double>() == 1);
  CHECK(causal[1].item<double>() == Approx(4).epsilon(1e-14));
  const auto both = softmax({.head_dim = 1, .value_dim = 1, .causal = false})->forward(inputs).flatten();
  CHECK(both[0].item<double>() == Approx(4).epsilon(1e-14));
}

TEST_CASE("softmax: scores are divided by the root of the key width") {
  // D = 4, q . k = 2 ln 3 and 0: divided by 2 the weights are 3/4 and 1/4.
  const auto query = torch::ones({1, 1, 1, 4}, torch::kFloat64);
  const auto key = torch::stack({query[0][0][0] * (std::log(3.0) / 2), query[0][0][0] * 0}).view({1, 1, 2, 4});
  const auto output = softmax({.head_dim = 4, .value_dim = 1})->forward({query, key, column({8, 0})});
  CHECK(output.item<double>() == Approx(6).epsilon(1e-14));
}

TEST_CASE("softmax: a newer query after a cache sees the whole cache") {
  // Equal scores: each output is the mean of the values seen. PyTorch's is_causal would give 1 and 1.5.
  const Inputs inputs{.query = column({0, 0}), .key = column({0, 0, 0}), .value = column({1, 2, 6})};
  const auto output = softmax({.head_dim = 1, .value_dim = 1})->forward(inputs).flatten();
  CHECK(output[0].item<double>() == Approx(1.5));
  CHECK(output[1].item<double>() == Approx(3));
}

TEST_CASE("softmax: multi-query is multi-head with the key and value heads repeated, gradients summed") {
  torch::manual_seed(2);
  const auto options = torch::dtype(torch::kFloat64).requires_grad(true);
  const auto query = torch::randn({2, 4, 9, 8}, options), key = torch::randn({2, 1, 9, 8}, options);
  const auto value = torch::randn({2, 1, 9, 8}, options), weight = torch::randn({2, 4, 9, 8}, torch::kFloat64);
  const Geometry shared{.num_heads = 4, .num_kv_heads = 1, .head_dim = 8, .value_dim = 8};
  const Geometry full{.num_heads = 4, .num_kv_heads = 4, .head_dim = 8, .value_dim = 8};
  const auto one = softmax(shared)->forward({query, key, value});
  const auto all = softmax(full)->forward({query, key.repeat({1, 4, 1, 1}), value.repeat({1, 4, 1, 1})});
  CHECK((one - all).abs().max().item<double>() < 1e-14);
  const auto gradients_one = torch::autograd::grad({(one * weight).sum()}, {query, key, value});
  const auto gradients_all = torch::autograd::grad({(all * weight).sum()}, {query, key, value});
  for (size_t i = 0; i < 3; ++i)
    CHECK((gradients_one[i] - gradients_all[i]).abs().max().item<double>() < 1e-13);  // sums of 4 x 9 terms
}

/// Who multiplies where logits are never seen.
static std::string fused_attention() {
  return has_kernels(at::kFloat) ? "attnscale::attention" : "aten::_scaled_dot_product_flash_attention_for_cpu";
}

TEST_CASE("softmax: the fused kernel runs where value and key are equally wide") {
  const auto query = torch::randn({2, 4, 9, 8}), key = torch::randn({2, 2, 9, 8}), value = torch::randn({2, 2, 9, 8});
  const auto attention = softmax({.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8});
  const FlopCounter counter;
  attention->forward({query, key, value});
  CHECK(counter.by_operator().contains(fused_attention()));
  CHECK_FALSE(counter.by_operator().contains("aten::bmm"));
}

TEST_CASE("softmax: algorithmic FLOPs count the causal half, executed FLOPs the square") {
  // T = 3: 6 pairs seen of 9; each costs 2 (D + E) = 30 FLOPs, in 2 x 4 heads.
  const Geometry geometry{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .value_dim = 7};
  const auto cost = variant_named("softmax").cost(Json::object(), geometry, {.batch = 2, .queries = 3, .keys = 3});
  CHECK(cost.algorithmic_flops == 8 * 6 * 30);
  CHECK(cost.executed_flops == 8 * 9 * 30);
  CHECK(cost.state_bytes == 2 * 2 * 3 * 15 * 4);  // B G S (D + E) floats
}

TEST_CASE("softmax: wrong shapes are refused by name") {
  const auto attention = softmax({.num_heads = 1, .head_dim = 8, .value_dim = 8});
  const auto query = torch::zeros({1, 1, 2, 8}), narrow = torch::zeros({1, 1, 2, 6});
  CHECK_THROWS_AS(attention->forward({query, narrow, query}), ShapeError);
  CHECK_THROWS_AS(attention->forward(
                      {.query = query, .key = query, .value = query, .key_padding = torch::ones({1, 3}, torch::kBool)}),
                  ShapeError);
}

TEST_CASE("softmax: a cap squeezes the logits, by hand") {
  // Scores 0 and 2 with c = 2: c tanh(1) = 1.523188...; weights 1 / (1 + e^1.523188) and the rest, values 0 and 1.
  const Inputs inputs{.query = column({2}), .key = column({0, 1}), .value = column({0, 1})};
  const auto attention = variant_named("softmax").make({{"logit_cap", 2.0}}, {.head_dim = 1, .value_dim = 1});
  CHECK(attention->forward(inputs).item<double>() == Approx(1 / (1 + std::exp(-2 * std::tanh(1.0)))).epsilon(1e-14));
}

TEST_CASE("softmax: a sink takes its share of the weight and gives nothing, by hand") {
  // Scores 0, sink ln 2: weights 1/4, 1/4 and 1/2 for the sink; y = (1 + 5) / 4. The first query sees one key: 1 / 3.
  const Inputs inputs{.query = column({0, 0}), .key = column({0, 0}), .value = column({1, 5})};
  for (const double cap : {0.0, 1e7}) {  // through the fused kernels, and written out
    const auto attention =
        variant_named("softmax").make({{"sinks", true}, {"logit_cap", cap}}, {.head_dim = 1, .value_dim = 1});
    attention->to(torch::kFloat64);
    const torch::NoGradGuard guard;
    attention->parameters()[0].fill_(std::log(2.0));
    const auto output = attention->forward(inputs).flatten();
    CHECK(output[0].item<double>() == Approx(1.0 / 3).epsilon(1e-14));
    CHECK(output[1].item<double>() == Approx(1.5).epsilon(1e-14));
  }
}

TEST_CASE("softmax: with norms the size of queries and keys does not matter") {
  torch::manual_seed(3);
  const auto draw = [] { return torch::randn({1, 2, 5, 8}, torch::kFloat64); };
  const auto query = draw(), key = draw(), value = draw();
  const auto attention = variant_named("softmax").make(
      {{"qk_norm", true}}, {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8});
  attention->to(torch::kFloat64);
  const auto output = attention->forward({query, key, value});
  // The 1e-6 beside the mean square, which is of the order 1, moves the logits by as much.
  CHECK((attention->forward({query * 100, key / 10, value}) - output).abs().max().item<double>() < 1e-3);
  // Unit scales: q k / sqrt(D) becomes sqrt(D) times the cosine.
  const auto cosine = [](const Tensor& x) { return x / x.norm(2, -1, true) * std::sqrt(8.0); };
  const auto by_hand = softmax({.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8})
                           ->forward({cosine(query), cosine(key), value});
  CHECK((by_hand - output).abs().max().item<double>() < 1e-4);
}

TEST_CASE("softmax: sinks go through the fused kernel") {
  const auto query = torch::randn({2, 4, 9, 8}), key = torch::randn({2, 2, 9, 8}), value = torch::randn({2, 2, 9, 8});
  const auto attention = variant_named("softmax").make(
      {{"sinks", true}}, {.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8});
  const torch::NoGradGuard guard;
  const FlopCounter counter;
  attention->forward({query, key, value});
  CHECK(counter.by_operator().contains(fused_attention()));
  CHECK_FALSE(counter.by_operator().contains("aten::bmm"));
}

TEST_CASE("softmax: a bidirectional layer has no decode state") {
  CHECK_THROWS_AS(softmax({.causal = false})->new_state(1, torch::kFloat32), ConfigError);
}
