#include <ATen/ops/conv1d.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_test_macros.hpp>

#include "attention/short_convolution.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("short_convolution: it is a grouped convolution that sees no later position") {
  torch::manual_seed(1);
  ShortConvolution convolution(5, 4, true);
  convolution.to(torch::kFloat64);
  auto parameters = convolution.named_parameters();
  const auto x = torch::randn({2, 9, 5}, torch::kFloat64);
  const auto padded = torch::constant_pad_nd(x.mT(), {3, 0});
  const auto expected = at::silu(at::conv1d(padded, parameters["weight"].unsqueeze(1), parameters["bias"], {1},
                                            at::IntArrayRef{0}, {1}, 5))
                            .mT();
  CHECK(largest_difference(convolution.forward(x, {}), expected) < double_rounding);
}

TEST_CASE("short_convolution: cut anywhere, the history makes it whole again") {
  torch::manual_seed(2);
  for (const int64_t taps : {1, 2, 4}) {
    ShortConvolution convolution(3, taps, false);
    convolution.to(torch::kFloat64);
    const auto x = torch::randn({1, 8, 3}, torch::kFloat64);
    Tensor history;
    std::vector<Tensor> parts;
    for (const auto& [from, count] : {std::pair(0, 1), std::pair(1, 2), std::pair(3, 5)}) {
      const auto piece = x.narrow(1, from, count);
      parts.push_back(convolution.forward(piece, history));
      history = convolution.next_history(piece, history);
      CHECK(history.size(1) == taps - 1);
    }
    CHECK(largest_difference(torch::cat(parts, 1), convolution.forward(x, {})) < double_rounding);
  }
}
