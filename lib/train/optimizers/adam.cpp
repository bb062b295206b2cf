#include "train/optimizers/adam.h"

#include "train/optimizers/slots.h"

namespace attnscale {

AdamMoments::AdamMoments(const std::vector<Slot*>& slots, const TrainOptions& options, bool decoupled_decay)
    : beta1_(options.beta1), beta2_(*options.beta2), epsilon_(*options.epsilon), decoupled_decay_(decoupled_decay) {
  step_count_ = at::zeros({}, at::kFloat);
  for (auto* slot : slots) {
    const auto& w = slot->parameter;
    slot->state = {{"first_moment", at::zeros_like(w)}, {"second_moment", at::zeros_like(w)}};
    step_count_ = step_count_.to(w.device());
  }
}

void AdamMoments::update(const std::vector<Slot*>& slots, int64_t step, double learning_rate) {
  step_count_.fill_(step);
  for (const auto& [numbers, group] : by_decay_and_epsilon(slots)) {
    const double weight_decay = numbers.first, epsilon = numbers.second * epsilon_;
    const auto parameters = parameters_of(group), gradients = gradients_of(group);
    const auto first = states_of(group, 0), second = states_of(group, 1);
    const std::vector<Tensor> counts(group.size(), step_count_);
    if (decoupled_decay_)
      at::_fused_adamw_(parameters, gradients, first, second, /*max_exp_avg_sqs=*/{}, counts, learning_rate, beta1_,
                        beta2_, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false);
    else
      at::_fused_adam_(parameters, gradients, first, second, /*max_exp_avg_sqs=*/{}, counts, learning_rate, beta1_,
                       beta2_, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
}

AdamW::AdamW(std::vector<Slot> slots, const TrainOptions& options)
    : Optimizer(std::move(slots)), moments_(pointers_to(slots_), options, /*decoupled_decay=*/true) {}

void AdamW::update(const Slots& slots, double learning_rate) { moments_.update(slots, steps_taken(), learning_rate); }

Adam::Adam(std::vector<Slot> slots, const TrainOptions& options)
    : Optimizer(std::move(slots)), moments_(pointers_to(slots_), options, /*decoupled_decay=*/false) {}

void Adam::update(const Slots& slots, double learning_rate) { moments_.update(slots, steps_taken(), learning_rate); }

}  // namespace attnscale
