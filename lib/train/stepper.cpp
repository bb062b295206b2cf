#include "train/stepper.h"

#include <cmath>

#include "core/hash.h"
#include "tensor/precision.h"
#include "train/schedule.h"

namespace attnscale {
namespace {

std::vector<std::pair<std::string, Tensor>> parameters_of(Transformer& model, const TrainOptions& options) {
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

Tensor next_token_loss(Transformer& model, const Tensor& tokens, const std::string& dtype, at::Reduction::Reduction how,
                       const Tensor& asked) {
  return at::cross_entropy_loss(next_token_logits(model, tokens, dtype), targets_of(tokens, asked), /*weight=*/{}, how,
                                not_asked);
}

Stepper::Stepper(Transformer& model, const TrainOptions& options)
    : model_(model),
      options_(options),
      dropout_(model.options().dropout > 0),
      optimizer_(parameters_of(model, options), {options.beta1, options.beta2, options.epsilon, options.weight_decay}) {
  model_.train();
}

StepResult Stepper::step(const Tensor& tokens, int64_t step, const Tensor& asked) {
  // Masks are a function of seed and step alone, so that a resumed run needs no saved generator.
  if (dropout_)
    at::manual_seed(stream_seed(static_cast<uint64_t>(options_.seed), "dropout", static_cast<uint64_t>(step)));
  const auto device = at::Device(options_.device);
  const auto loss = next_token_loss(model_, tokens.to(device), options_.dtype, at::Reduction::Mean,
                                    asked.defined() ? asked.to(device) : asked);
  const auto auxiliary = model_.take_auxiliary_loss();
  (auxiliary.defined() ? loss + auxiliary : loss).backward();

  // Both numbers come to the host at once; this is the only place where a step waits for the device.
  const auto numbers = at::stack({loss.detach(), optimizer_.gradient_norm()}).to(at::kCPU, at::kDouble);
  StepResult result;
  result.loss = numbers.const_data_ptr<double>()[0];
  result.gradient_norm = numbers.const_data_ptr<double>()[1];
  result.learning_rate = learning_rate_at(step, options_);
  result.finite = std::isfinite(result.loss) && std::isfinite(result.gradient_norm);
  if (result.finite) {
    if (options_.clip_norm > 0 && result.gradient_norm > options_.clip_norm)
      optimizer_.scale_gradients(options_.clip_norm / result.gradient_norm);
    optimizer_.step(result.learning_rate);
  }
  optimizer_.zero_gradients();
  return result;
}

}  // namespace attnscale
