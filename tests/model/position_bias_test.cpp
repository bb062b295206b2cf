#include "model/position_bias.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include "attention/rotary.h"

using namespace attnscale;

TEST_CASE("position bias: ALiBi's slopes are the paper's, and for 3 heads those of its code") {
  // Section 3: for 8 heads 1/2, 1/4 .. 1/256.
  const auto eight = alibi_slopes(8);
  REQUIRE(eight.size() == 8);
  for (int h = 0; h < 8; ++h) CHECK(eight[static_cast<size_t>(h)] == std::ldexp(1.0, -h - 1));
  // 2 heads: 1/16, 1/256; then the first of 4 heads: 1/4.
  CHECK(alibi_slopes(3) == std::vector<double>{1.0 / 16, 1.0 / 256, 1.0 / 4});
}

TEST_CASE("position bias: distances share T5's buckets") {
  // 8 buckets up to 32: 0 to 3 alone, then 4 + floor(4 ln(n / 4) / ln 8): 4 to 6, 7 to 11, 12 to 19, 20 and more.
  std::vector<int64_t> first(8, -1);
  for (int64_t back = 40; back >= 0; --back) first[static_cast<size_t>(relative_bucket(back, 8, 32))] = back;
  CHECK(first == std::vector<int64_t>{0, 1, 2, 3, 4, 7, 12, 20});
  CHECK(relative_bucket(100000, 8, 32) == 7);
}

TEST_CASE("position bias: the newest query stands at the newest key") {
  const PositionBias alibi(resolved({.model_dim = 6, .num_heads = 2, .position = "alibi"}, 9), 8);
  CHECK(alibi.parameters().empty());
  const auto bias = alibi.forward(2, 5, torch::empty({0}, torch::kFloat64));
  REQUIRE(bias.sizes() == at::IntArrayRef({1, 2, 2, 5}));
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t t = 0; t < 2; ++t)
      for (int64_t s = 0; s <= 3 + t; ++s)
        CHECK(bias[0][h][t][s].item<double>() ==
              -std::exp2(-4.0 * static_cast<double>(h + 1)) * static_cast<double>(3 + t - s));

  PositionBias relative(
      resolved({.num_heads = 2, .position = "relative", .relative_buckets = 4, .relative_distance = 4}, 9), 8);
  const torch::NoGradGuard guard;
  relative.parameters()[0].copy_(torch::arange(8).view({4, 2}));
  const auto looked_up = relative.forward(1, 6, torch::empty({0}));  // distances 5 to 0: buckets 3 3 3 2 1 0
  CHECK(at::equal(looked_up[0][1][0], torch::tensor({7.F, 7.F, 7.F, 5.F, 3.F, 1.F})));
}

TEST_CASE("position bias: in both directions ALiBi is symmetric, and T5 has other buckets for what lies ahead") {
  const PositionBias alibi(resolved({.num_heads = 2, .head = "masked_token", .position = "alibi"}, 9), 8);
  const auto bias = alibi.forward(4, 4, torch::empty({0}, torch::kFloat64));
  for (int64_t t = 0; t < 4; ++t)
    for (int64_t s = 0; s < 4; ++s)
      CHECK(bias[0][1][t][s].item<double>() == -std::exp2(-8.0) * static_cast<double>(std::abs(t - s)));

  // 8 buckets, 4 each way up to 8: distances 0 and 1 alone, then 2 + floor(2 ln(n / 2) / ln 4): 2 and 3, 4 and more.
  PositionBias relative(resolved({.num_heads = 2,
                                  .head = "masked_token",
                                  .position = "relative",
                                  .relative_buckets = 8,
                                  .relative_distance = 8},
                                 9),
                        8);
  const torch::NoGradGuard guard;
  relative.parameters()[0].copy_(torch::arange(16).view({8, 2}));
  const auto row = relative.forward(7, 7, torch::empty({0}))[0][0][3];  // 3, 2, 1 behind, itself, 1, 2, 3 ahead
  CHECK(at::equal(row, 2 * torch::tensor({2.F, 2.F, 1.F, 0.F, 5.F, 6.F, 6.F})));
}

TEST_CASE("rotary scaling: linear divides every frequency, ntk the lowest alone, yarn those of long waves") {
  const auto plain = rotary_frequencies(16, 10000, {});
  CHECK(at::allclose(rotary_frequencies(16, 10000, {.kind = "linear", .factor = 4}), plain / 4, 1e-14, 0));
  const auto ntk = rotary_frequencies(16, 10000, {.kind = "ntk", .factor = 4});
  CHECK(ntk[0].item<double>() == 1);
  CHECK(std::abs(ntk[7].item<double>() / plain[7].item<double>() - 0.25) < 1e-14);
  CHECK(ntk[3].item<double>() < plain[3].item<double>());
  // Turns within 1000 positions: pair 0 159, pair 1 50, pair 2 15.9, .. pair 4 1.6, pair 5 0.5. The ramp goes from pair
  // floor(1.39) to ceil(4.4).
  const auto yarn = rotary_frequencies(16, 10000, {.kind = "yarn", .factor = 4, .trained = 1000});
  const auto ratio = yarn / plain;
  for (int i = 0; i <= 1; ++i) CHECK(std::abs(ratio[i].item<double>() - 1) < 1e-14);
  CHECK(std::abs(ratio[3].item<double>() - (0.5 + 0.5 / 4)) < 1e-14);
  for (int i = 5; i < 8; ++i) CHECK(std::abs(ratio[i].item<double>() - 0.25) < 1e-14);
}
