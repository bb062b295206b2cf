#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "core/error.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case compressed(int64_t compression, bool causal, int64_t heads = 4, int64_t kv_heads = 2, int64_t value_dim = 4) {
  return {.variant = "memory_compressed",
          .options = {{"compression", compression}},
          .geometry = {.num_heads = heads,
                       .num_kv_heads = kv_heads,
                       .head_dim = 4,
                       .value_dim = value_dim,
                       .context = 200,
                       .causal = causal}};
}

void set(Attention& attention, const std::string& name, double value) {
  const torch::NoGradGuard guard;
  attention.named_parameters()[name].fill_(value);
}

}  // namespace

TEST_CASE("memory_compressed: five positions worked by hand") {
  // D = E = 1, compression 2, all logits zero (q = 0), value weights 1, bias 0.5, null value 10.
  // v = (1, 2, 3, 4, 5): slots 1 + 2 + 0.5 = 3.5 and 3 + 4 + 0.5 = 7.5; bidirectional a third, 5 + 0 + 0.5.
  // Causal: y_0 = 10 (null alone); y_1 = y_2 = (10 + 3.5) / 2; y_3 = y_4 = (10 + 3.5 + 7.5) / 3 = 7.
  // Bidirectional: (10 + 3.5 + 7.5 + 5.5) / 4 = 6.625 everywhere.
  const auto zero = torch::zeros({1, 1, 5, 1}, torch::kFloat64);
  const auto value = torch::arange(1, 6, torch::kFloat64).reshape({1, 1, 5, 1});
  for (const bool causal : {true, false}) {
    auto attention = variant_named("memory_compressed")
                         .make({{"compression", 2}}, {.head_dim = 1, .value_dim = 1, .context = 5, .causal = causal});
    attention->to(torch::kFloat64);
    set(*attention, "value_weight", 1);
    set(*attention, "value_bias", 0.5);
    set(*attention, "null_value", 10);
    const auto found = attention->forward({.query = zero, .key = zero, .value = value, .key_padding = {}}).flatten();
    const std::vector<double> wanted =
        causal ? std::vector<double>{10, 6.75, 6.75, 7, 7} : std::vector<double>(5, 6.625);
    CHECK(largest_difference(found, torch::tensor(wanted, torch::kFloat64)) < 1e-12);  // a few roundings at 10
  }
}

TEST_CASE("memory_compressed: the convolution is that of the library, head by head") {
  // Outside reference: conv1d with stride = kernel on a causal model's only complete slot. The query
  // is zero and the null value too, so the output is half the slot.
  const auto test = compressed(3, true, 2, 2);
  auto attention = test.build();
  set(*attention, "null_value", 0);
  auto in = test.inputs(3);
  in.query = torch::zeros_like(in.query);
  const auto output = attention->forward(in).select(2, 2);  // [B, H, E]
  const auto parameters = attention->named_parameters();
  for (int64_t h = 0; h < 2; ++h) {
    // Rows i E .. (i + 1) E of the weight take position i: [c E, E] -> [E out, E in, c].
    const auto kernel = parameters["value_weight"][h].reshape({3, 4, 4}).permute({2, 1, 0});
    const auto slot =
        at::conv1d(in.value.select(1, h).mT(), kernel, parameters["value_bias"].chunk(2)[h], 3);  // [B, E, 1]
    CHECK(largest_difference(output.select(1, h) * 2, slot.squeeze(-1)) < double_rounding);
  }
}

TEST_CASE("memory_compressed: outputs and gradients equal the loop over slots") {
  for (const bool causal : {true, false})
    for (const int64_t compression : {1, 3, 8})
      for (const int64_t positions : {1, 2, 63, 65}) {
        INFO((causal ? "causal" : "bidirectional") << ", compression " << compression << ", positions " << positions);
        const auto test = compressed(compression, causal);
        check_oracle(test, test.inputs(positions));
      }
  const auto cross = compressed(3, false, 2, 1, 5);
  check_oracle(cross, cross.inputs(3, 17));
  check_oracle(cross, cross.inputs(17, 1));
}

TEST_CASE("memory_compressed: a slot is seen from its last position on, and not before") {
  const auto test = compressed(4, true, 1, 1);
  const auto attention = test.build();
  const auto in = test.inputs(23);
  const auto output = attention->forward(in);
  for (int64_t query = 0; query < 23; ++query) {
    const auto slope = torch::autograd::grad({output.select(2, query).sum()}, {in.value}, {}, true, false, true)[0];
    for (int64_t key = 0; key < 23; ++key) {
      const bool expected = key < (query + 1) / 4 * 4;  // complete slots hold the keys before this one
      CHECK(attention->sees(query, key, 23) == expected);
      CHECK((slope[0][0][key].abs().max().item<double>() > 0) == expected);
    }
  }
}

TEST_CASE("memory_compressed: before the first complete slot the output is the null value") {
  const auto test = compressed(8, true);
  const auto attention = test.build();
  const auto output = attention->forward(test.inputs(7));
  const auto null =
      attention->named_parameters()["null_value"].view({2, 4}).repeat_interleave(2, 0).unsqueeze(1);  // [H, 1, E]
  CHECK(largest_difference(output, null.expand_as(output)) < double_rounding);
}

TEST_CASE("memory_compressed: padded keys count for nothing") {
  for (const bool causal : {true, false}) {
    const auto test = compressed(3, causal);
    for (const int64_t positions : {1, 2, 31}) check_oracle(test, test.inputs(positions, positions, true));
    check_padding(test, 31);
  }
}

TEST_CASE("memory_compressed: decoding equals the forward pass for every split") {
  check_decoding(compressed(3, true), 65, {1, 7, 65});
  check_decoding(compressed(8, true), 65, {40, 25});
  check_decoding(compressed(3, true), 9, std::vector<int64_t>(9, 1));
}

TEST_CASE("memory_compressed: executed FLOPs are what the dispatcher counts") {
  for (const bool causal : {true, false})
    for (const int64_t positions : {1, 2, 3, 63, 64, 65})
      for (const int64_t value_dim : {4, 7}) check_flops(compressed(3, causal, 4, 2, value_dim), positions, positions);
  check_flops(compressed(3, false), 5, 34);
}

TEST_CASE("memory_compressed: algorithmic FLOPs count the pairs that are seen") {
  const auto test = compressed(3, true, 2, 1);
  // T = 7: two slots of 3 positions, each 2 * 3 * (16 + 16) FLOPs; pairs: 7 nulls, slots 0,0,1,1,1,2,2.
  const auto cost = variant_named("memory_compressed").cost(test.options, test.geometry, {1, 7, 7});
  CHECK(cost.algorithmic_flops == 2 * 192 + 2 * 2 * 14 * 8);
}

TEST_CASE("memory_compressed: claimed parameters are there, and a compression beyond the context is refused") {
  const auto test = compressed(3, true);
  int64_t counted = 0;
  for (const auto& parameter : test.build()->parameters()) counted += parameter.numel();
  const auto& info = variant_named("memory_compressed");
  CHECK(info.parameter_count(test.options, test.geometry) == counted);
  CHECK(refusals(info, {{"compression", 201}}, test.geometry).size() == 1);
  CHECK(refusals(info, {{"compression", 200}}, test.geometry).empty());
}

TEST_CASE("memory_compressed: lower precision stays near, and extreme inputs stay finite") {
  // 0.2: slots are sums of 3 x 4 products of size 1, so values reach 10, of which bfloat16 keeps 8 bits.
  for (const bool causal : {true, false}) check_precision(compressed(3, causal), 65, 0.2);
}
