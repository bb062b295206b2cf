#include "train/stepper.h"

#include <cmath>

#include "core/hash.h"
#include "tensor/precision.h"
#include "train/clipping.h"
#include "train/schedule.h"

namespace attnscale {
namespace {

std::vector<std::pair<std::string, Tensor>> placed_parameters(Transformer& model, const TrainOptions& options) {
  model.to(at::Device(options.device), weight_dtype(options.dtype));
  std::vector<std::pair<std::string, Tensor>> result;
  for (const auto& item : model.named_parameters()) result.emplace_back(item.key(), item.value());
  return result;
}

}  // namespace

Tensor tokens_of(const Batch& batch) {
  return at::from_blob(const_cast<int64_t*>(batch.tokens.data()), {batch.rows, batch.context + 1}, at::kLong);
}

Tensor asked_of(const Batch& batch) {
  if (batch.asked.empty()) return {};
  return at::from_blob(const_cast<uint8_t*>(batch.asked.data()), {batch.rows, batch.context}, at::kByte).to(at::kBool);
}

Tensor next_token_logits(Transformer& model, const Tensor& tokens, const std::string& dtype) {
  Tensor logits;
  {
    const ForwardPrecision precision(dtype, tokens.device().type());
    logits = model.forward(tokens.narrow(1, 0, tokens.size(1) - 1)).flatten(0, 1);
  }
  // Sums over a vocabulary lose too much in bfloat16.
  return logits.scalar_type() == at::kBFloat16 ? logits.to(at::kFloat) : logits;
}

Tensor targets_of(const Tensor& tokens, const Tensor& asked) {
  const auto targets = tokens.narrow(1, 1, tokens.size(1) - 1);
  return (asked.defined() ? targets.masked_fill(asked.logical_not(), not_asked) : targets).reshape({-1});
}

Stepper::Stepper(Transformer& model, const TrainOptions& options)
    : model_(model),
      options_(resolved(options)),
      dropout_(model.options().dropout > 0 || model.options().embedding_dropout.value_or(0) > 0),
      optimizer_(make_optimizer(placed_parameters(model, options_), options_)) {
  if (options_.ema_decay > 0) average_.emplace(model_, options_.ema_decay);
  model_.train();
}

/// Adds the gradients of these windows. @param count  as in `training_objective` @return their loss
Tensor Stepper::pass(const Tensor& tokens, const Tensor& asked, const Tensor& count) {
  const auto logits = next_token_logits(model_, tokens, options_.dtype);
  const auto objective = training_objective(logits, targets_of(tokens, asked), options_, count);
  const auto auxiliary = model_.take_auxiliary_loss();
  const auto share = [&] { return options_.accumulate == 1 ? auxiliary : auxiliary / options_.accumulate; };
  (auxiliary.defined() ? objective.minimised + share() : objective.minimised).backward();
  return objective.loss;
}

/// @return the loss of all windows
Tensor Stepper::accumulate_gradients(const Tensor& tokens, const Tensor& asked) {
  if (options_.accumulate == 1) return pass(tokens, asked, {});
  const auto count = asked.defined() ? asked.sum() : at::full({}, tokens.size(0) * (tokens.size(1) - 1), at::kLong);
  const int64_t rows = tokens.size(0) / options_.accumulate;
  TORCH_CHECK(rows * options_.accumulate == tokens.size(0), "accumulate does not divide the batch");
  Tensor loss;
  for (int64_t first = 0; first < tokens.size(0); first += rows) {
    const auto part = pass(tokens.narrow(0, first, rows), asked.defined() ? asked.narrow(0, first, rows) : asked,
                           count.to(tokens.device()));
    loss = loss.defined() ? loss + part : part;
  }
  return loss;
}

StepResult Stepper::step(const Tensor& tokens, int64_t step, const Tensor& asked) {
  // Masks are a function of seed and step alone, so that a resumed run needs no saved generator.
  if (dropout_)
    at::manual_seed(stream_seed(static_cast<uint64_t>(options_.seed), "dropout", static_cast<uint64_t>(step)));
  model_.seed_stochastic_depth(
      stream_seed(static_cast<uint64_t>(options_.seed), "stochastic_depth", static_cast<uint64_t>(step)));
  const auto device = at::Device(options_.device);
  const auto loss = accumulate_gradients(tokens.to(device), asked.defined() ? asked.to(device) : asked);

  // Both numbers come to the host at once; this is the only place where a step waits for the device.
  const auto numbers = at::stack({loss, gradient_norm(optimizer_->slots())}).to(at::kCPU, at::kDouble);
  StepResult result;
  result.loss = numbers.const_data_ptr<double>()[0];
  result.gradient_norm = numbers.const_data_ptr<double>()[1];
  result.learning_rate = learning_rate_at(step, options_);
  result.finite = std::isfinite(result.loss) && std::isfinite(result.gradient_norm);
  if (result.finite) {
    clip_gradients(optimizer_->slots(), result.gradient_norm, options_);
    optimizer_->step(result.learning_rate);
    if (average_) average_->update();
  }
  optimizer_->zero_gradients();
  return result;
}

}  // namespace attnscale
