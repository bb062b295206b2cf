#include <catch2/catch_test_macros.hpp>

#include <ATen/ops/linear.h>

#include "attention/registry.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

constexpr int64_t routing_width = 12;  // M

Case routing_case(int64_t clusters, int64_t window) {
  return {
      .variant = "routing",
      .options = {{"clusters", clusters}, {"window", window}},
      .geometry = {
          .num_heads = 2, .num_kv_heads = 2, .head_dim = 6, .value_dim = 6, .context = 64, .model_dim = routing_width}};
}

}  // namespace

TEST_CASE("routing: one cluster and a window of all is softmax over normalised shared queries and keys") {
  const auto attention = routing_case(1, 64).build();
  torch::manual_seed(5);
  const auto hidden = torch::randn({1, 1, 40, routing_width}, torch::kFloat64);
  const auto weight = attention->named_parameters();
  const auto heads = [&](const char* name) {
    return at::linear(hidden.squeeze(1), weight[name]).view({1, 40, 2, 6}).transpose(1, 2);
  };
  const auto raw = heads("shared.weight");
  const auto centred = raw - raw.mean(-1, true);
  const auto normal = centred / (centred.square().mean(-1, true) + 1e-5).sqrt();
  const auto logits = normal.matmul(normal.mT()) / std::sqrt(6.0);
  const auto hide = torch::ones({40, 40}, torch::kBool).triu(1);
  const auto attended = torch::softmax(logits.masked_fill(hide, -INFINITY), -1).matmul(heads("value.weight"));
  const auto expected = at::linear(attended.transpose(1, 2).flatten(2), weight["output.weight"]).unsqueeze(1);
  CHECK(largest_difference(attention->forward({.hidden = hidden}), expected) < double_rounding);
}

TEST_CASE("routing: the k-means loss moves centroids to the means of their clusters, and nothing else") {
  const auto attention = routing_case(3, 16).build();
  torch::manual_seed(6);
  const auto hidden = torch::randn({4, 1, 64, routing_width}, torch::kFloat64);
  auto parameters = attention->named_parameters();
  double before = 0, after = 0;
  for (int step = 0; step < 200; ++step) {
    attention->forward({.hidden = hidden});
    const auto loss = attention->take_auxiliary_loss();
    REQUIRE(loss.defined());
    (step == 0 ? before : after) = loss.item<double>();
    const auto slopes = torch::autograd::grad({loss}, {parameters["centroids"], parameters["shared.weight"]}, {}, {},
                                              false, /*allow_unused=*/true);
    CHECK(!slopes[1].defined());
    const torch::NoGradGuard guard;
    parameters["centroids"].sub_(slopes[0] * 10);
  }
  CHECK(after < 0.95 * before);
  // In evaluation there is no loss.
  attention->eval();
  attention->forward({.hidden = hidden});
  CHECK(!attention->take_auxiliary_loss().defined());
}
