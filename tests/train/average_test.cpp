#include "train/average.h"

#include <catch2/catch_test_macros.hpp>

#include "model/transformer.h"

using namespace attnscale;

namespace {

Transformer averaged_model() {
  const auto options = resolved(ModelOptions{.depth = 1, .model_dim = 8, .num_heads = 2}, 5);
  return Transformer(options, {}, /*context=*/6, /*init_seed=*/1);
}

void set_all(Transformer& model, double value) {
  const torch::NoGradGuard no_gradients;
  for (auto& parameter : model.parameters()) parameter.fill_(value);
}

}  // namespace

TEST_CASE("average: it starts with the first weights and then keeps its share of itself") {
  auto model = averaged_model();
  WeightAverage average(model, 0.75);
  for (const double weights : {8.0, 4.0, 0.0}) {
    set_all(model, weights);
    average.update();
  }
  // 8; 0.75 * 8 + 0.25 * 4 = 7; 0.75 * 7 + 0.25 * 0 = 5.25, all exact in float32
  for (const auto& [name, tensor] : average.state()) CHECK(tensor.eq(5.25).all().item<bool>());
  CHECK(average.state().size() == model.named_parameters().size());
}

TEST_CASE("average: a model has other weights for a while, and then its own to the bit") {
  auto model = averaged_model();
  WeightAverage average(model, 0.75);
  set_all(model, 8);
  average.update();
  set_all(model, 3);
  {
    const OtherWeights others(model, average.state());
    for (const auto& parameter : model.parameters()) CHECK(parameter.eq(8).all().item<bool>());
  }
  for (const auto& parameter : model.parameters()) CHECK(parameter.eq(3).all().item<bool>());
  const OtherWeights none(model, {});
  for (const auto& parameter : model.parameters()) CHECK(parameter.eq(3).all().item<bool>());
}

TEST_CASE("average: restored, it goes on as the one it was taken from") {
  auto model = averaged_model(), other = averaged_model();
  WeightAverage first(model, 0.9), second(other, 0.9);
  for (int t = 0; t < 3; ++t) set_all(model, 0.1 * t), first.update();
  second.restore(first.state(), 3);
  set_all(model, 7), set_all(other, 7);
  first.update(), second.update();
  for (const auto& [name, tensor] : first.state()) CHECK(at::equal(tensor, second.state().at(name)));
}
