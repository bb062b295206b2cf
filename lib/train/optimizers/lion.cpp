#include "train/optimizers/lion.h"

#include "train/optimizers/slots.h"

namespace attnscale {

Lion::Lion(std::vector<Slot> slots, const TrainOptions& options)
    : Optimizer(std::move(slots)), beta1_(options.beta1), beta2_(*options.beta2) {
  for (auto& slot : slots_) slot.state = {{"momentum", at::zeros_like(slot.parameter)}};
}

void Lion::update(const Slots& slots, double learning_rate) {
  for (const auto& [weight_decay, group] : by_weight_decay(slots)) {
    const auto parameters = parameters_of(group), gradients = gradients_of(group), momenta = states_of(group, 0);
    auto directions = at::_foreach_lerp(momenta, gradients, 1 - beta1_);
    at::_foreach_sign_(directions);
    if (weight_decay != 0) at::_foreach_mul_(parameters, 1 - learning_rate * weight_decay);
    at::_foreach_add_(parameters, directions, -learning_rate);
    at::_foreach_lerp_(momenta, gradients, 1 - beta2_);
  }
}

}  // namespace attnscale
