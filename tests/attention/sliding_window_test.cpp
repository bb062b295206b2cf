#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case windowed(int64_t window, bool causal, int64_t heads = 4, int64_t kv_heads = 2) {
  return {.variant = "sliding_window",
          .options = {{"window", window}},
          .geometry = {.num_heads = heads,
                       .num_kv_heads = kv_heads,
                       .head_dim = 4,
                       .value_dim = 4,
                       .context = 200,
                       .causal = causal}};
}

}  // namespace

TEST_CASE("sliding_window: four positions worked by hand") {
  // All keys are zero, so weights are equal and an output is the mean of the values in the window.
  // v = (1, 2, 4, 8), window 2. Causal: 1; (1+2)/2; (2+4)/2; (4+8)/2.
  // Bidirectional, window 3: one before, one after: (1+2)/2; (1+2+4)/3; (2+4+8)/3; (4+8)/2.
  // Bidirectional, window 2: one before, none after: as causal.
  const auto zero = torch::zeros({1, 1, 4, 1}, torch::kFloat64);
  const auto value = torch::tensor({1.0, 2.0, 4.0, 8.0}, torch::kFloat64).reshape({1, 1, 4, 1});
  const auto outputs = [&](int64_t window, bool causal) {
    const Geometry geometry{.head_dim = 1, .value_dim = 1, .context = 4, .causal = causal};
    return variant_named("sliding_window")
        .make({{"window", window}}, geometry)
        ->forward({.query = zero, .key = zero, .value = value, .key_padding = {}})
        .flatten();
  };
  // 1e-12: means of up to three numbers of size 10 in float64.
  const auto expect = [](const Tensor& found, std::vector<double> wanted) {
    CHECK(largest_difference(found, torch::tensor(wanted, torch::kFloat64)) < 1e-12);
  };
  expect(outputs(2, true), {1, 1.5, 3, 6});
  expect(outputs(3, false), {1.5, 7.0 / 3, 14.0 / 3, 6});
  expect(outputs(2, false), {1, 1.5, 3, 6});
  expect(outputs(1, true), {1, 2, 4, 8});
}

TEST_CASE("sliding_window: outputs and gradients equal the loop over each window") {
  // Blocks: 17 divides nothing here, 3 is below the smallest block, 40 leaves two uneven halves.
  for (const bool causal : {true, false})
    for (const int64_t window : {1, 3, 17, 40})
      for (const int64_t positions : {1, 2, 63, 65}) {
        INFO((causal ? "causal" : "bidirectional") << ", window " << window << ", positions " << positions);
        const auto test = windowed(window, causal);
        check_oracle(test, test.inputs(positions));
      }
}

TEST_CASE("sliding_window: a query sees exactly `window` keys, its own included") {
  for (const bool causal : {true, false})
    for (const int64_t window : {1, 2, 5, 16, 33}) {
      const auto test = windowed(window, causal, 1, 1);
      const auto attention = test.build();
      const auto in = test.inputs(100);
      const auto output = attention->forward(in);
      for (const int64_t query : {0, 15, 16, 50, 64, 99}) {
        const auto slope = torch::autograd::grad({output.select(2, query).sum()}, {in.value}, {}, true)[0];
        const auto touched = slope.abs().amax({1, 3}).gt(0)[0];  // [S]
        int64_t declared = 0;
        for (int64_t key = 0; key < 100; ++key) {
          const bool sees = attention->sees(query, key, 100);
          declared += sees;
          CHECK(touched[key].item<bool>() == sees);
        }
        if (query == 50) CHECK(declared == window);
      }
    }
}

TEST_CASE("sliding_window: a window of all positions is softmax attention") {
  for (const bool causal : {true, false})
    for (const int64_t positions : {1, 2, 63, 64}) {
      const auto test = windowed(causal ? positions : 2 * positions, causal);
      const auto softmax = variant_named("softmax").make(Json::object(), test.geometry);
      for (const bool padded : {false, true}) {
        const auto in = test.inputs(positions, positions, padded);
        CHECK(largest_difference(test.build()->forward(in), softmax->forward(in)) < double_rounding);
      }
    }
}

TEST_CASE("sliding_window: padded keys count for nothing, and a window without real keys gives zeros") {
  for (const bool causal : {true, false}) {
    const auto test = windowed(5, causal);
    for (const int64_t positions : {1, 2, 61}) check_oracle(test, test.inputs(positions, positions, true));
    check_padding(test, 61);
    const auto output = test.build()->forward(test.inputs(61, 61, true));
    CHECK(output[1].abs().max().item<double>() == 0);                // nothing real in row 1
    CHECK(output[0].select(1, 60).abs().max().item<double>() == 0);  // 51 .. 60 are padding in row 0
    CHECK(output[0].select(1, 50).abs().max().item<double>() > 0);
  }
}

TEST_CASE("sliding_window: decoding equals the forward pass and keeps no more than the window") {
  check_decoding(windowed(5, true), 65, {1, 7, 65});
  check_decoding(windowed(16, true), 65, {20, 45});
  check_decoding(windowed(100, true), 65, {1, 7, 65});
  check_decoding(windowed(3, true), 9, std::vector<int64_t>(9, 1));
}

TEST_CASE("sliding_window: executed FLOPs are what the dispatcher counts") {
  for (const bool causal : {true, false})
    for (const int64_t window : {1, 5, 16, 40})
      for (const int64_t positions : {1, 2, 33, 64, 65, 130})
        check_flops(windowed(window, causal), positions, positions);
  auto unequal = windowed(16, true, 3, 3);
  unequal.geometry.value_dim = 7;  // no fused kernel for unequal widths
  check_flops(unequal, 65, 65);
}

TEST_CASE("sliding_window: work grows with the length, not with its square") {
  const auto cost = [](int64_t window, int64_t t) {
    const auto test = windowed(window, true);
    return variant_named("sliding_window").cost(test.options, test.geometry, {1, t, t});
  };
  // 2 H (D + E) = 64 FLOPs a pair. Window 2 of 5 positions: 1 + 2 + 2 + 2 + 2 pairs.
  CHECK(cost(2, 5).algorithmic_flops == 64 * 9);
  // A block computes its own keys and at most window - 1 more for every query, padding a query per block.
  for (const int64_t t : {256, 1024, 4000}) {
    CHECK(cost(64, t).executed_flops <= 64.0 * (t + 64) * 127);
    CHECK(cost(64, t).executed_flops >= cost(64, t).algorithmic_flops);
  }
}

TEST_CASE("sliding_window: lower precision stays near, and extreme inputs stay finite") {
  for (const bool causal : {true, false}) check_precision(windowed(16, causal), 65);
}
