#include "train/coordinate_check.h"

#include <cmath>

#include <fmt/format.h>

#include "core/hash.h"
#include "train/ramp.h"
#include "train/stepper.h"

namespace attnscale {
namespace {

/// What is compared: keys, values, attention's logits and the stream by layer, then the logits of the next token.
struct Snapshot {
  std::vector<Tensor> keys, values, products, streams;
  Tensor logits;
};

/// Attention's logits before masks and biases: query . key / sqrt(D), [B, H, T, T]
Tensor products_of(const Inputs& inputs) {
  const auto key = inputs.key.repeat_interleave(inputs.query.size(1) / inputs.key.size(1), 1);  // [B, H, T, D]
  return at::matmul(inputs.query, key.transpose(2, 3)) / std::sqrt(static_cast<double>(key.size(3)));
}

Snapshot snapshot_of(Transformer& model, const Tensor& tokens) {
  const torch::NoGradGuard guard;
  const bool training = model.is_training();
  model.eval();
  Snapshot snapshot;
  model.observe(
      tokens,
      [&](int64_t layer, Attention&, const Inputs& inputs) {
        if (!inputs.key.defined())
          throw ConfigError(
              fmt::format("attention: layer {} makes its own keys and values, so that a coordinate check has "
                          "nothing to look at; take a variant that does not",
                          layer));
        snapshot.keys.push_back(inputs.key.clone());
        snapshot.values.push_back(inputs.value.clone());
        snapshot.products.push_back(products_of(inputs));
      },
      [&](int64_t, const Tensor& stream) { snapshot.streams.push_back(stream.clone()); });
  snapshot.logits = model.forward(tokens);
  model.train(training);
  return snapshot;
}

double change(const Tensor& before, const Tensor& after) {
  return (after - before).to(torch::kFloat64).square().mean().sqrt().item<double>();
}

double mean_change(const std::vector<Tensor>& before, const std::vector<Tensor>& after) {
  double sum = 0;
  for (size_t i = 0; i < before.size(); ++i) sum += change(before[i], after[i]);
  return sum / static_cast<double>(before.size());
}

}  // namespace

Coordinates coordinates_of(const RunConfig& config, int64_t steps) {
  const auto seed = static_cast<uint64_t>(config.train.seed);
  const int64_t rows = config.train.batch_size, context = config.data.context;
  const auto source = config.open_source();
  Transformer model(config.model, config.attention, context, stream_seed(seed, "init"));
  Stepper stepper(model, config.train);
  const auto fixed = source->batch(Split::validation, 0, 0, rows, context);
  const auto tokens = questions_of(fixed, config.model, 0).inputs.to(at::Device(config.train.device));
  const auto before = snapshot_of(model, tokens);
  for (int64_t step = 1; step <= steps; ++step) {
    const auto data = step_data(*source, config, step);
    if (!stepper.step(data.questions, step).finite)
      throw NumericsError(fmt::format("model_dim {}: step {} is not finite; take a smaller train.learning_rate",
                                      config.model.model_dim, step));
  }
  const auto after = snapshot_of(model, tokens);
  return {.model_dim = config.model.model_dim,
          .key = mean_change(before.keys, after.keys),
          .value = mean_change(before.values, after.values),
          .attention = mean_change(before.products, after.products),
          .stream = mean_change(before.streams, after.streams),
          .logits = change(before.logits, after.logits)};
}

double log_slope(const std::vector<double>& x, const std::vector<double>& y) {
  double mean_x = 0, mean_y = 0;
  const auto count = static_cast<double>(x.size());
  for (size_t i = 0; i < x.size(); ++i) mean_x += std::log(x[i]) / count, mean_y += std::log(y[i]) / count;
  double product = 0, square = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    product += (std::log(x[i]) - mean_x) * (std::log(y[i]) - mean_y);
    square += (std::log(x[i]) - mean_x) * (std::log(x[i]) - mean_x);
  }
  return product / square;
}

}  // namespace attnscale
