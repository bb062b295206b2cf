#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case linear(Json options, bool causal, int64_t heads = 4, int64_t kv_heads = 2) {
  return {.variant = "linear",
          .options = std::move(options),
          .geometry = {.num_heads = heads,
                       .num_kv_heads = kv_heads,
                       .head_dim = 5,
                       .value_dim = 3,
                       .context = 200,
                       .causal = causal}};
}

}  // namespace

TEST_CASE("linear: two positions worked by hand") {
  // D = E = 1, all inputs positive, so phi(x) = x + 1.
  //   q = (1, 0), k = (0, 2), v = (3, 5): phi(q) = (2, 1), phi(k) = (1, 3).
  // Causal: y_0 = 2*1*3 / (2*1) = 3;  y_1 = (1*1*3 + 1*3*5) / (1*1 + 1*3) = 18 / 4 = 4.5.
  // Bidirectional: y_0 = (2*1*3 + 2*3*5) / (2*1 + 2*3) = 36 / 8 = 4.5, y_1 = 4.5.
  // The 1e-6 in the normaliser moves them by at most 3 * 1e-6 / 2.
  const auto column = [](std::vector<double> x) {
    return torch::tensor(x, torch::kFloat64).reshape({1, 1, static_cast<int64_t>(x.size()), 1});
  };
  const Inputs in{.query = column({1, 0}), .key = column({0, 2}), .value = column({3, 5}), .key_padding = {}};
  for (const bool causal : {true, false}) {
    const Geometry geometry{.head_dim = 1, .value_dim = 1, .context = 2, .causal = causal};
    const auto y = variant_named("linear").make(Json::object(), geometry)->forward(in).flatten();
    CHECK(y[0].item<double>() == Catch::Approx(causal ? 3 : 4.5).margin(2e-6));
    CHECK(y[1].item<double>() == Catch::Approx(4.5).margin(2e-6));
  }
}

TEST_CASE("linear: outputs and gradients equal the recurrence for chunks that do and do not divide the length") {
  for (const int64_t chunk : {1, 7, 64})
    for (const int64_t positions : {1, 2, 63, 65}) {
      INFO("chunk " << chunk << ", positions " << positions);
      const auto test = linear({{"chunk_length", chunk}}, true);
      check_oracle(test, test.inputs(positions));
    }
}

TEST_CASE("linear: the bidirectional form equals the sum over all keys, also with other lengths of queries and keys") {
  const auto test = linear(Json::object(), false);
  check_oracle(test, test.inputs(63));
  check_oracle(test, test.inputs(3, 17));
  check_oracle(test, test.inputs(17, 1));
}

TEST_CASE("linear: padded keys count for nothing") {
  for (const bool causal : {true, false}) {
    const auto test = linear({{"chunk_length", 8}}, causal);
    for (const int64_t positions : {1, 2, 31}) check_oracle(test, test.inputs(positions, positions, true));
    check_padding(test, 31);
    CHECK(test.build()->forward(test.inputs(31, 31, true))[1].abs().max().item<double>() == 0);
  }
}

TEST_CASE("linear: decoding equals the forward pass for every split") {
  const auto test = linear({{"chunk_length", 16}}, true);
  check_decoding(test, 65, {1, 7, 65});
  check_decoding(test, 65, {40, 25});
  check_decoding(test, 9, std::vector<int64_t>(9, 1));
}

TEST_CASE("linear: executed FLOPs are what the dispatcher counts") {
  for (const int64_t positions : {1, 2, 63, 64, 65, 130})
    for (const auto& [heads, kv_heads] : {std::pair(4, 2), std::pair(3, 3), std::pair(2, 1)})
      check_flops(linear({{"chunk_length", 16}}, true, heads, kv_heads), positions, positions);
  check_flops(linear(Json::object(), false), 5, 33);
}

TEST_CASE("linear: algorithmic FLOPs are linear in the length") {
  const auto test = linear(Json::object(), true);
  const auto flops = [&](int64_t t) {
    return variant_named("linear").cost(test.options, test.geometry, {1, t, t}).algorithmic_flops;
  };
  CHECK(flops(128) == 2 * flops(64));
  CHECK(flops(256) == 4 * flops(64));
}

TEST_CASE("linear: lower precision stays near, and extreme inputs stay finite") {
  check_precision(linear({{"chunk_length", 16}}, true), 65);
}

TEST_CASE("linear: sums are kept in float32 under bfloat16") {
  // 1000 equal keys of phi = 1: a bfloat16 normaliser would stop growing at 256 (8 bits), and the
  // last output, the mean of 500 zeros and 500 ones, would be far from 0.5.
  const Geometry geometry{.head_dim = 1, .value_dim = 1, .context = 1000};
  auto zeros = torch::zeros({1, 1, 1000, 1}, torch::kBFloat16);
  auto value = zeros.clone();
  value.narrow(2, 500, 500).fill_(1);
  const auto attention = variant_named("linear").make(Json::object(), geometry);
  const auto last = attention->forward({.query = zeros, .key = zeros, .value = value, .key_padding = {}})
                        .flatten()[999]
                        .item<double>();
  // 500 / (1000 + 1e-6); a kernel reads its float32 state rounded once, by 2^-9.
  CHECK(std::abs(last - 0.5) <= std::ldexp(0.5, -8));
  const auto state = attention->new_state(1, torch::TensorOptions().dtype(torch::kBFloat16));
  CHECK(state.tensors.at("sums").scalar_type() == torch::kFloat32);
}

TEST_CASE("linear: a query whose features all underflow gives zeros") {
  auto in = linear(Json::object(), true).inputs(4);
  in.query = torch::full_like(in.query, -1e4);
  CHECK(linear(Json::object(), true).build()->forward(in).abs().max().item<double>() == 0);
}
