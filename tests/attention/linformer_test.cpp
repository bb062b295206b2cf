#include <cmath>

#include <ATen/ops/eye.h>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "core/error.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case linformer(Json options, bool causal, int64_t context = 65, int64_t heads = 4, int64_t kv_heads = 2,
               int64_t value_dim = 4) {
  return {.variant = "linformer",
          .options = std::move(options),
          .geometry = {.num_heads = heads,
                       .num_kv_heads = kv_heads,
                       .head_dim = 4,
                       .value_dim = value_dim,
                       .context = context,
                       .causal = causal}};
}

void set_identity(Attention& attention) {
  const torch::NoGradGuard guard;
  for (auto& p : attention.parameters()) p.copy_(torch::eye(p.size(-1), p.options()));
}

}  // namespace

TEST_CASE("linformer: three positions worked by hand, bidirectional") {
  // D = E = 1, context 4, k = 2, S = 3: the fourth columns are not used. q = 0, so both slots weigh 1/2.
  // F = (1 2 3 9; 0 1 0 9), v = (1, 10, 100): slots 321 and 10, mean 165.5.
  auto attention = variant_named("linformer")
                       .make({{"projected_length", 2}}, {.head_dim = 1, .value_dim = 1, .context = 4, .causal = false});
  attention->to(torch::kFloat64);
  {
    const torch::NoGradGuard guard;
    attention->named_parameters()["value_projection"].copy_(torch::tensor({{1, 2, 3, 9}, {0, 1, 0, 9}}));
  }
  const auto zero = torch::zeros({1, 1, 3, 1}, torch::kFloat64);
  const auto value = torch::tensor({1.0, 10.0, 100.0}, torch::kFloat64).reshape({1, 1, 3, 1});
  const auto found = attention->forward({.query = zero, .key = zero, .value = value, .key_padding = {}}).flatten();
  CHECK(largest_difference(found, torch::full({3}, 165.5, torch::kFloat64)) < 1e-10);  // roundings at 300
}

TEST_CASE("linformer: five positions worked by hand, causal by blocks") {
  // D = E = 1, context 6, k = 3, c = 2: r = ceil(3 * 2 / 6) = 1 slot a block, (6 - 1) / 2 = 2 slices.
  // q = 0, slices of F (1 1) and (2 0), v = (1, 3, 5, 7, 9): slots 4 and 10.
  // y_0 = 1; y_1 = (1+3)/2 = 2; y_2 = (4+5)/2 = 4.5; y_3 = (4+5+7)/3 = 16/3; y_4 = (4+10+9)/3 = 23/3.
  auto attention =
      variant_named("linformer")
          .make({{"projected_length", 3}, {"block_length", 2}}, {.head_dim = 1, .value_dim = 1, .context = 6});
  attention->to(torch::kFloat64);
  {
    const torch::NoGradGuard guard;
    attention->named_parameters()["value_projection"].copy_(torch::tensor({1, 1, 2, 0}).reshape({2, 1, 2}));
  }
  const auto zero = torch::zeros({1, 1, 5, 1}, torch::kFloat64);
  const auto value = torch::tensor({1.0, 3.0, 5.0, 7.0, 9.0}, torch::kFloat64).reshape({1, 1, 5, 1});
  const auto found = attention->forward({.query = zero, .key = zero, .value = value, .key_padding = {}}).flatten();
  const auto wanted = torch::tensor({1.0, 2.0, 4.5, 16.0 / 3, 23.0 / 3}, torch::kFloat64);
  CHECK(largest_difference(found, wanted) < 1e-12);  // a few roundings at 10
}

TEST_CASE("linformer: outputs and gradients equal the loop, for lengths below, at and above whole blocks") {
  const std::vector<Json> choices = {Json::object(), Json{{"projected_length", 5}, {"block_length", 7}},
                                     Json{{"projected_length", 1}, {"block_length", 1}},
                                     Json{{"projected_length", 8}, {"block_length", 100}}};
  for (const bool causal : {true, false})
    for (const auto& options : choices)
      for (const int64_t positions : {1, 2, 7, 8, 63, 65}) {
        INFO((causal ? "causal " : "bidirectional ") << options << ", positions " << positions);
        const auto test = linformer(options, causal);
        check_oracle(test, test.inputs(positions));
      }
  const auto cross = linformer({{"projected_length", 5}}, false, 65, 2, 1, 7);
  check_oracle(cross, cross.inputs(3, 17));
  check_oracle(cross, cross.inputs(17, 1));
}

TEST_CASE("linformer: identity projections give full attention") {
  for (const int64_t positions : {1, 2, 63, 64}) {
    const auto test = linformer({{"projected_length", positions}}, false, positions);
    const auto attention = test.build();
    set_identity(*attention);
    const auto softmax = variant_named("softmax").make(Json::object(), test.geometry);
    CHECK(largest_difference(attention->forward(test.inputs(positions)), softmax->forward(test.inputs(positions))) <
          double_rounding);
  }
  // Causal: as many slots as positions in a block, for any length within the context.
  for (const int64_t block : {1, 5, 13}) {
    const auto test = linformer({{"projected_length", 65}, {"block_length", block}}, true);
    const auto attention = test.build();
    set_identity(*attention);
    const auto softmax = variant_named("softmax").make(Json::object(), test.geometry);
    for (const int64_t positions : {1, 2, 63, 65})
      CHECK(largest_difference(attention->forward(test.inputs(positions)), softmax->forward(test.inputs(positions))) <
            double_rounding);
  }
}

TEST_CASE("linformer: the causal form reads its own block raw and earlier ones as slots, and nothing later") {
  const auto test = linformer({{"projected_length", 13}, {"block_length", 5}}, true, 65, 1, 1);  // r = 1
  const auto attention = test.build(), slotless = test.build();
  {
    const torch::NoGradGuard guard;
    for (auto& projection : slotless->parameters()) projection.zero_();
  }
  const auto in = test.inputs(23);
  const auto output = attention->forward(in), without = slotless->forward(in);
  for (int64_t query = 0; query < 23; ++query)
    for (const auto& [result, first_seen] : {std::pair(output, int64_t{0}), std::pair(without, query / 5 * 5)}) {
      const auto slope = torch::autograd::grad({result.select(2, query).sum()}, {in.value}, {}, true, false, true)[0];
      for (int64_t key = 0; key < 23; ++key)
        CHECK((slope[0][0][key].abs().max().item<double>() > 0) == (key >= first_seen && key <= query));
    }
}

TEST_CASE("linformer: padded keys count for nothing, and a query that sees none gives zeros") {
  for (const bool causal : {true, false}) {
    const auto test = linformer({{"projected_length", 20}, {"block_length", 4}}, causal);
    for (const int64_t positions : {1, 2, 61}) check_oracle(test, test.inputs(positions, positions, true));
    check_padding(test, 61);
    const auto output = test.build()->forward(test.inputs(61, 61, true));
    CHECK(output[1].abs().max().item<double>() == 0);
    // Keys 0 .. 9 of row 0 are padding: query 9 sees nothing when causal, query 10 itself.
    CHECK((output[0].select(1, 9).abs().max().item<double>() == 0) == causal);
    CHECK(output[0].select(1, 10).abs().max().item<double>() > 0);
  }
}

TEST_CASE("linformer: decoding equals the forward pass for every split") {
  check_decoding(linformer({{"projected_length", 20}, {"block_length", 4}}, true), 65, {1, 7, 65});
  check_decoding(linformer({{"projected_length", 20}, {"block_length", 7}}, true), 63, {40, 23});
  check_decoding(linformer({{"projected_length", 5}, {"block_length", 1}}, true), 9, std::vector<int64_t>(9, 1));
  check_decoding(linformer({{"block_length", 100}}, true), 9, {2, 7});
  check_decoding(linformer({{"block_length", 4}}, true, 8), 8, {4, 4});  // a last block that nothing follows
}

TEST_CASE("linformer: executed FLOPs are what the dispatcher counts") {
  for (const bool causal : {true, false})
    for (const int64_t positions : {1, 2, 16, 17, 63, 64, 65})
      for (const int64_t value_dim : {4, 7})
        check_flops(linformer({{"projected_length", 20}}, causal, 65, 4, 2, value_dim), positions, positions);
  check_flops(linformer({{"projected_length", 20}}, false), 5, 33);
}

TEST_CASE("linformer: algorithmic FLOPs count the pairs that are seen") {
  // Context 6, k = 3, c = 2, r = 1, T = 5, one head, D = E = 4: two slots of 2 positions are projected
  // (4 products), and the queries see 1, 2, 1+1, 1+2, 2+1 keys or slots: 11 pairs; 16 FLOPs each.
  const auto test = linformer({{"projected_length", 3}, {"block_length", 2}}, true, 6, 1, 1);
  CHECK(variant_named("linformer").cost(test.options, test.geometry, {1, 5, 5}).algorithmic_flops == 16 * (4 + 11));
}

TEST_CASE("linformer: claimed parameters are there, also where one block holds the context") {
  const auto& info = variant_named("linformer");
  for (const bool causal : {true, false})
    for (const int64_t block : {1, 16, 64, 65, 100}) {
      const auto test = linformer({{"block_length", block}}, causal);
      int64_t counted = 0;
      for (const auto& parameter : test.build()->parameters()) counted += parameter.numel();
      CHECK(info.parameter_count(test.options, test.geometry) == counted);
    }
}

TEST_CASE("linformer: refuses more slots than positions, and positions beyond its context") {
  const auto test = linformer(Json::object(), true, 10);
  const auto& info = variant_named("linformer");
  CHECK(refusals(info, {{"projected_length", 11}}, test.geometry).size() == 1);
  CHECK(refusals(info, {{"projected_length", 10}}, test.geometry).empty());
  CHECK_THROWS_AS(test.build()->forward(test.inputs(11)), ShapeError);
}

TEST_CASE("linformer: lower precision stays near, and extreme inputs stay finite") {
  // 0.3: slots are sums over up to 65 positions with weights of 0.5, so values reach 15 in bfloat16.
  for (const bool causal : {true, false}) check_precision(linformer({{"projected_length", 20}}, causal), 65, 0.3);
}
