// What the conformance run cannot know about compressive attention: its auxiliary loss.

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"

using namespace attnscale;

namespace {

struct Compressor {
  std::shared_ptr<Attention> attention;
  Inputs inputs;
};

Compressor compressor(const Json& options, int64_t positions) {
  torch::manual_seed(5);
  const auto draw = [&] {
    return torch::randn({2, 2, positions, 4}, torch::dtype(torch::kFloat64).requires_grad(true));
  };
  auto attention =
      variant_named("compressive")
          .make(options, {.num_heads = 2, .num_kv_heads = 2, .head_dim = 4, .value_dim = 4, .context = positions});
  attention->to(torch::kFloat64);
  return {attention, {.query = draw(), .key = draw(), .value = draw()}};
}

}  // namespace

TEST_CASE("compressive: slots of one position that are copied reconstruct perfectly") {
  const auto test = compressor({{"segment", 8}, {"memory", 8}, {"slots", 8}, {"compression", 1}}, 40);
  {
    const torch::NoGradGuard guard;
    for (auto& item : test.attention->named_parameters()) {
      if (item.key().ends_with("bias")) item.value().zero_();
      else item.value().copy_(torch::eye(4, torch::kFloat64).expand({2, 4, 4}));
    }
  }
  test.attention->forward(test.inputs);
  CHECK(test.attention->take_auxiliary_loss().item<double>() < 1e-28);  // squares of float64 roundings
}

TEST_CASE("compressive: the reconstruction loss trains the compression and nothing else") {
  const auto test = compressor({{"segment", 8}, {"memory", 8}, {"slots", 8}}, 40);
  test.attention->forward(test.inputs);
  const auto loss = test.attention->take_auxiliary_loss();
  REQUIRE(loss.defined());
  CHECK(loss.item<double>() > 1e-3);  // random compression of random numbers
  std::vector<Tensor> leaves = {test.inputs.query, test.inputs.key, test.inputs.value};
  for (const auto& parameter : test.attention->parameters()) leaves.push_back(parameter);
  const auto gradients = torch::autograd::grad({loss}, leaves, {}, std::nullopt, false, /*allow_unused=*/true);
  for (size_t i = 0; i < leaves.size(); ++i) {
    INFO("leaf " << i);
    // A key bias moves all logits of a query alike; its gradient is rounding.
    if (i < 3) CHECK_FALSE(gradients[i].defined());
    else CHECK(gradients[i].defined());
  }
  CHECK_FALSE(test.attention->take_auxiliary_loss().defined());
}

TEST_CASE("compressive: no reconstruction loss in evaluation, without weight, or before anything leaves the queue") {
  const Json options = {{"segment", 8}, {"memory", 8}, {"slots", 8}};
  const auto has_loss = [](const Compressor& test) {
    test.attention->forward(test.inputs);
    return test.attention->take_auxiliary_loss().defined();
  };
  CHECK(has_loss(compressor(options, 40)));
  CHECK_FALSE(has_loss(compressor(options, 16)));
  auto without = options;
  without["reconstruction_weight"] = 0.0;
  CHECK_FALSE(has_loss(compressor(without, 40)));
  const auto evaluated = compressor(options, 40);
  evaluated.attention->eval();
  CHECK_FALSE(has_loss(evaluated));
}
