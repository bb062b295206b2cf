#include "train/optimizers/sgd.h"

#include "train/optimizers/slots.h"

namespace attnscale {

Sgd::Sgd(std::vector<Slot> slots, const TrainOptions& options)
    : Optimizer(std::move(slots)), momentum_(*options.momentum), nesterov_(options.nesterov.value_or(false)) {
  if (momentum_ == 0) return;
  for (auto& slot : slots_) slot.state = {{"momentum", at::zeros_like(slot.parameter)}};
}

void Sgd::update(const Slots& slots, double learning_rate) {
  for (const auto& [weight_decay, group] : by_weight_decay(slots)) {
    const auto momenta = momentum_ == 0 ? std::vector<Tensor>() : states_of(group, 0);
    // Without dampening a first step is like any other, from a momentum of zero.
    at::_fused_sgd_(parameters_of(group), gradients_of(group), momenta, weight_decay, momentum_, learning_rate,
                    /*dampening=*/0, nesterov_, /*maximize=*/false, /*is_first_step=*/false);
  }
}

}  // namespace attnscale
