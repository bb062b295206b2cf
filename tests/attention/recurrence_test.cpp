#include "attention/recurrence.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <ATen/Functions.h>

#include "attention/registry.h"

using namespace attnscale;

TEST_CASE("recurrence: a chunk is no longer than the kernel's, so that what is counted is what is done") {
  using Catch::Matchers::ContainsSubstring;
  int asked = 0;
  for (const auto& variant : all_variants()) {
    if (!variant.resolve(Json::object()).contains("chunk_length") || variant.name == "log_linear") continue;
    INFO(variant.name);  // log_linear has no kernel and takes what it is told
    ++asked;
    CHECK(variant.resolve({{"chunk_length", 64}})["chunk_length"] == 64);
    CHECK_THROWS_WITH(variant.resolve({{"chunk_length", 65}}), ContainsSubstring("attention.chunk_length") &&
                                                                   ContainsSubstring("65") &&
                                                                   ContainsSubstring("1 to 64"));
  }
  CHECK(asked > 10);
  const auto x = at::ones({1, 1, 128, 4});
  CHECK_THROWS_WITH(recurrence_kernel(x, x, x, {}, {}, {.chunk_length = 65}),
                    ContainsSubstring("chunk_length 65, expected 1 to 64"));
}

TEST_CASE("recurrence: in float32, small decays behind a strong reset keep their digits") {
  torch::manual_seed(4);
  const auto drawn = [](at::IntArrayRef sizes) { return at::randn(sizes, torch::kFloat64).to(torch::kFloat32); };
  const auto query = drawn({1, 2, 64, 8}), value = drawn({1, 2, 64, 8});
  const auto key = at::softmax(drawn({1, 2, 64, 8}), -1);
  auto log_decay = at::full({1, 2, 64}, -0.01);
  log_decay.select(2, 3).fill_(-1e4);  // its neighbours are 1e-6 of the cumulative sum, float32's last digits
  const auto beta = at::full({1, 2, 64}, 0.5);
  const ChunkedCall call{.initial = {}, .chunk_length = 64, .with_state = true};
  const auto wide = [](const Tensor& x) { return x.to(torch::kFloat64); };
  const auto check = [](const Recurred& low, const Recurred& exact) {
    // Outputs are of size 10 and sums of up to 64 products: some 64 * 6e-8 * 10.
    CHECK((low.outputs - exact.outputs).abs().max().item<double>() < 4e-5);
    CHECK((low.state - exact.state).abs().max().item<double>() < 4e-5);
  };
  check(scalar_decay(query, key, value, log_decay, call),
        scalar_decay(wide(query), wide(key), wide(value), wide(log_decay), call));
  check(delta_rule(query, key, value, beta, log_decay, call),
        delta_rule(wide(query), wide(key), wide(value), wide(beta), wide(log_decay), call));
  const auto by_channel = log_decay.unsqueeze(-1).expand({1, 2, 64, 8});
  check(diagonal_decay(query, key, value, by_channel, call),
        diagonal_decay(wide(query), wide(key), wide(value), wide(by_channel), call));
}
