#include "train/optimizers/schedule_free.h"

#include <cmath>

#include "train/optimizers/slots.h"

namespace attnscale {

ScheduleFree::ScheduleFree(std::vector<Slot> slots, const TrainOptions& options)
    : Optimizer(std::move(slots)),
      adaptive_(options.optimizer == "adamw"),
      share_(adaptive_ ? options.beta1 : *options.momentum),
      rate_squares_(at::zeros({}, at::kDouble)) {
  if (adaptive_) beta2_ = *options.beta2, epsilon_ = *options.epsilon;
  for (auto& slot : slots_) {
    slot.state = {{"base", slot.parameter.detach().clone()}};
    if (adaptive_) slot.state.emplace_back("second_moment", at::zeros_like(slot.parameter));
  }
  shared_state_ = {{"schedule_free/rate_squares", rate_squares_}};
}

/// [u + decay * y] of slots that have one decay and one epsilon.
std::vector<Tensor> ScheduleFree::directions(const Slots& slots) {
  auto result = gradients_of(slots);
  if (adaptive_) {
    auto squares = states_of(slots, 1);
    at::_foreach_mul_(squares, beta2_);
    at::_foreach_addcmul_(squares, result, result, 1 - beta2_);
    auto roots = at::_foreach_div(squares, 1 - std::pow(beta2_, static_cast<double>(steps_taken())));
    at::_foreach_sqrt_(roots);
    at::_foreach_add_(roots, epsilon_ * slots.front()->epsilon_factor);
    result = at::_foreach_div(result, roots);
  }
  const double decay = slots.front()->weight_decay;
  return decay == 0 ? result : at::_foreach_add(result, parameters_of(slots), decay);
}

void ScheduleFree::begin_step(double learning_rate) {
  // Until the first step the weights may be set from outside, as a test or a restored model does.
  if (steps_taken() == 1)
    for (auto& slot : slots_) slot.state[0].second.copy_(slot.parameter);
  const double square = learning_rate * learning_rate;
  rate_squares_.add_(square);
  newest_ = square / rate_squares_.item<double>();
}

void ScheduleFree::update(const Slots& slots, double learning_rate) {
  const double c = newest_;
  for (const auto& [numbers, group] : by_decay_and_epsilon(slots)) {
    const auto steps = directions(group);
    auto y = parameters_of(group), z = states_of(group, 0);
    // x moves to c z', y with it by the share b; written without x.
    at::_foreach_lerp_(y, z, c);
    at::_foreach_add_(y, steps, learning_rate * (share_ * (1 - c) - 1));
    at::_foreach_add_(z, steps, -learning_rate);
  }
}

TensorMap ScheduleFree::averaged_weights() const {
  const torch::NoGradGuard no_gradients;
  TensorMap result;
  for (const auto& slot : slots_)
    result[slot.name] = steps_taken() == 0 ? slot.parameter.detach().clone()
                                           : slot.parameter.lerp(slot.state[0].second, 1 - 1 / share_);
  return result;
}

}  // namespace attnscale
