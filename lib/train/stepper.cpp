#include "train/stepper.h"

#include <cmath>

#include <fmt/format.h>

#include "core/hash.h"
#include "tensor/leaf_gradients.h"
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

/// [R, N, V], in the dtype of the products
Tensor short_logits_of(Transformer& model, const Tensor& inputs, const std::string& dtype) {
  const ForwardPrecision precision(dtype, inputs.device().type());
  return model.forward(inputs);
}

}  // namespace

Float32Parts float32_parts(const TrainOptions& options) {
  return {.projections = options.float32_projections.value_or(false),
          .attention = options.float32_attention.value_or(false),
          .feed_forward = options.float32_feed_forward.value_or(false),
          .head = options.float32_head.value_or(false)};
}

Tensor logits_of(Transformer& model, const Tensor& inputs, const std::string& dtype) {
  return widened(short_logits_of(model, inputs, dtype).flatten(0, 1));
}

Stepper::Stepper(Transformer& model, const TrainOptions& options)
    : repeatable_(options.deterministic.value_or(false)),
      model_(model),
      options_(resolved(options)),
      dropout_(model.options().dropout > 0 || model.options().embedding_dropout.value_or(0) > 0),
      drops_rows_(model.options().stochastic_depth > 0),
      loss_scale_(options_),
      optimizer_(make_optimizer(placed_parameters(model, options_), options_, width_multiple(model.options()))) {
  if (options_.ema_decay > 0) average_.emplace(model_, options_.ema_decay);
  if (options_.cuda_graph)
    captured_ = std::make_unique<CapturedStep>(
        [this](const Questions& questions, const Tensor& loss_scale) {
          return accumulate_gradients(questions, nullptr, loss_scale);
        },
        *optimizer_, options_);
  model_.checkpoint_activations(options_.activation_checkpointing);
  model_.keep_float32(float32_parts(options_));
  model_.train();
}

/// Adds the gradients of these windows. @param count  as in `training_objective`
/// @param loss_scale  in place of the host's @return their loss
Tensor Stepper::pass(const Questions& questions, const Tensor& count, const Tensor& loss_scale) {
  std::optional<LeafGradients> by_nodes;
  if (options_.accumulate == 1) by_nodes.emplace();  // otherwise sums would go another way than in `pass_apart`
  const auto logits = short_logits_of(model_, questions.inputs, options_.dtype);
  const auto objective = training_objective(logits, questions.targets, options_, count);
  const auto auxiliary = model_.take_auxiliary_loss();
  const auto share = [&] { return options_.accumulate == 1 ? auxiliary : auxiliary / options_.accumulate; };
  const auto minimised = auxiliary.defined() ? objective.minimised + share() : objective.minimised;
  if (loss_scale.defined()) (minimised * loss_scale).backward();
  else (loss_scale_.value() == 1 ? minimised : minimised * loss_scale_.value()).backward();
  return objective.loss;
}

/// A pass whose gradients are shown before they are added to those of the others, to the same bits.
Tensor Stepper::pass_apart(const Questions& questions, const Tensor& count, StepLook& watched) {
  std::vector<Tensor> before;
  for (const auto& slot : optimizer_->slots()) before.push_back(slot.parameter.grad());
  optimizer_->zero_gradients();
  const auto loss = pass(questions, count);
  watched.add_pass(optimizer_->slots());
  const torch::NoGradGuard no_gradients;
  for (size_t i = 0; i < before.size(); ++i) {
    auto& gradient = optimizer_->slots()[i].parameter.mutable_grad();
    if (before[i].defined()) gradient = gradient.defined() ? before[i].add_(gradient) : before[i];
  }
  return loss;
}

/// @return the loss of all windows
Tensor Stepper::accumulate_gradients(const Questions& questions, StepLook* watched, const Tensor& loss_scale) {
  if (options_.accumulate == 1) return pass(questions, {}, loss_scale);
  const auto& [inputs, targets] = questions;
  const auto count = targets.ne(not_asked).sum();
  const int64_t rows = inputs.size(0) / options_.accumulate;
  TORCH_CHECK(rows * options_.accumulate == inputs.size(0), "accumulate does not divide the batch");
  Tensor loss;
  for (int64_t first = 0; first < inputs.size(0); first += rows) {
    const Questions own{inputs.narrow(0, first, rows), targets.narrow(0, first, rows)};
    const auto part = watched != nullptr ? pass_apart(own, count, *watched) : pass(own, count, loss_scale);
    loss = loss.defined() ? loss + part : part;
  }
  return loss;
}

void Stepper::unscale_gradients() {
  if (loss_scale_.value() == 1) return;
  std::vector<Tensor> gradients;
  for (const auto& slot : optimizer_->slots())
    if (slot.parameter.grad().defined()) gradients.push_back(slot.parameter.grad());
  if (!gradients.empty()) at::_foreach_mul_(gradients, 1 / loss_scale_.value());
}

/// The first that is to blame: the loss, or a gradient, in the model's order.
std::string Stepper::cause_of(double loss) const {
  if (!std::isfinite(loss)) {
    for (const auto& item : model_.named_parameters())
      if (!item.value().isfinite().all().item<bool>())
        return fmt::format("the loss is not finite, and neither is {}", item.key());
    return "the loss is not finite, with weights that are: a forward pass overflowed";
  }
  for (const auto& item : model_.named_parameters())
    if (const auto& gradient = item.value().grad(); gradient.defined() && !gradient.isfinite().all().item<bool>())
      return fmt::format("the gradient of {} is not finite{}", item.key(),
                         options_.dtype == "float16" ? ", at loss scale 1 too" : "");
  return "the norm of the gradients is not finite, though each number is";
}

void Stepper::update(const StepResult& result, int64_t windows, StepLook* watched) {
  const auto& slots = optimizer_->slots();
  if (watched != nullptr) watched->before_update(slots, windows, result.loss_scale);
  const auto factor = common_factor(result.gradient_norm, options_);
  if (!factor) clip_gradients(slots, result.gradient_norm, options_);
  optimizer_->step(result.learning_rate, factor.value_or(1));
  if (watched != nullptr) watched->after_update(slots);
}

// Masks are a function of seed and step alone, so that a resumed run needs no saved generator.
void Stepper::seed(int64_t step) {
  const auto seed = static_cast<uint64_t>(options_.seed), number = static_cast<uint64_t>(step);
  if (dropout_) at::manual_seed(stream_seed(seed, "dropout", number));
  if (drops_rows_) model_.seed_stochastic_depth(stream_seed(seed, "stochastic_depth", number));
}

StepNumbers Stepper::gradients_of(const Questions& questions, StepLook* watched) {
  const auto device = at::Device(options_.device);
  const auto loss = accumulate_gradients({questions.inputs.to(device), questions.targets.to(device)}, watched);
  unscale_gradients();
  const auto norm = gradient_norm(optimizer_->slots());
  if (device.is_cpu()) return {.loss = loss.item<double>(), .gradient_norm = norm.item<double>()};
  // Of another device both come to the host at once; this is the only place where a step waits for it.
  const auto numbers = at::stack({loss, norm}).to(at::kCPU, at::kDouble);
  return {.loss = numbers.const_data_ptr<double>()[0], .gradient_norm = numbers.const_data_ptr<double>()[1]};
}

StepResult Stepper::step(const Questions& questions, int64_t step, StepLook* watched) {
  StepResult result;
  result.learning_rate = rate_factor_ * learning_rate_at(step, options_);
  result.loss_scale = loss_scale_.value();
  const bool captured = captured_ && watched == nullptr;
  seed(step);
  const auto numbers =
      captured ? captured_->run(questions, result.learning_rate, result.loss_scale) : gradients_of(questions, watched);
  result.loss = numbers.loss;
  result.gradient_norm = numbers.gradient_norm;
  result.finite = std::isfinite(result.loss) && std::isfinite(result.gradient_norm);
  if (!result.finite && std::isfinite(result.loss) && loss_scale_.overflowed()) {
    result.overflow = result.finite = true;
  } else if (!result.finite) {
    if (captured) {  // whose gradients are gone
      seed(step);
      gradients_of(questions, nullptr);
    }
    result.cause = cause_of(result.loss);
  } else {
    loss_scale_.succeeded();
    if (captured) optimizer_->count_update();
    else update(result, questions.inputs.size(0), watched);
    if (average_) average_->update();
  }
  optimizer_->zero_gradients();
  return result;
}

}  // namespace attnscale
