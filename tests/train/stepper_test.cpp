#include "train/stepper.h"

#include <catch2/catch_test_macros.hpp>

#include "data/registry.h"

using namespace attnscale;

namespace {

constexpr int64_t step_context = 20;

struct Trained {
  std::vector<double> losses, norms;
  TensorMap weights;
};

/// @param some_asked  a third of the targets count, none of the first window's
Trained trained(TrainOptions options, bool some_asked = false) {
  const auto& info = source_named("zipf_memory");
  const auto source = info.make(info.resolve(Json::object()));
  const auto model_options = resolved(ModelOptions{.depth = 2, .model_dim = 16, .num_heads = 2}, source->vocab_size());
  Transformer model(model_options, {}, step_context, 1);
  options.dtype = "float64";
  Stepper stepper(model, options);
  Trained result;
  for (int64_t step = 1; step <= 10; ++step) {
    const auto batch = source->batch(Split::train, 1, step, options.batch_size, step_context);
    at::manual_seed(step);
    auto asked = at::rand({options.batch_size, step_context}) < 0.33;
    asked[0].fill_(false);
    auto questions = questions_of(batch, model_options, 0);
    if (some_asked) questions.targets = questions.targets.masked_fill(asked.logical_not(), not_asked);
    const auto numbers = stepper.step(questions, step);
    REQUIRE(numbers.finite);
    result.losses.push_back(numbers.loss);
    result.norms.push_back(numbers.gradient_norm);
  }
  for (const auto& item : model.named_parameters()) result.weights[item.key()] = item.value().detach().clone();
  return result;
}

}  // namespace

TEST_CASE("stepper: a batch in parts gives the losses, gradients and weights of the whole one") {
  for (const bool some_asked : {false, true})
    for (const int64_t accumulate : {2, 3, 6}) {
      INFO(some_asked << " " << accumulate);
      const TrainOptions options{
          .steps = 10, .batch_size = 6, .learning_rate = 0.01, .label_smoothing = 0.1, .z_loss = 0.01};
      auto in_parts = options;
      in_parts.accumulate = accumulate;
      const auto whole = trained(options, some_asked), parts = trained(in_parts, some_asked);
      double distance = 0;
      for (size_t i = 0; i < whole.losses.size(); ++i) {
        distance = std::max(distance, std::abs(whole.losses[i] - parts.losses[i]));
        distance = std::max(distance, std::abs(whole.norms[i] - parts.norms[i]));
      }
      for (const auto& [name, tensor] : whole.weights)
        distance = std::max(distance, (tensor - parts.weights.at(name)).abs().max().item<double>());
      UNSCOPED_INFO("largest distance " << distance);
      // Float64: sums in another order, amplified by AdamW's quotient over ten steps.
      CHECK(distance < 1e-9);
      CHECK(distance > 0);  // they were in parts
    }
}

TEST_CASE("stepper: the reported loss is the cross entropy, whatever is minimised") {
  const TrainOptions plain{.steps = 10, .batch_size = 4};
  auto smooth = plain;
  smooth.label_smoothing = 0.3;
  smooth.z_loss = 0.1;
  const auto a = trained(plain), b = trained(smooth);
  CHECK(a.losses[0] == b.losses[0]);  // the first is of the same weights
  CHECK(a.norms[0] != b.norms[0]);
}
