#include "train/optimizers/adam.h"

#include <algorithm>

#include "tensor/kernels/adam_kernel.h"
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

void AdamMoments::update_by_kernel(const std::vector<Slot*>& slots, int64_t step, double learning_rate,
                                   double weight_decay, double epsilon, double gradient_factor) const {
  std::vector<AdamTensors> tensors;
  for (const auto* slot : slots)
    tensors.push_back({slot->parameter, slot->parameter.grad(), slot->state[0].second, slot->state[1].second});
  adamw_kernel(tensors, {.beta1 = beta1_, .beta2 = beta2_, .epsilon = epsilon, .step = step}, learning_rate,
               weight_decay, gradient_factor);
}

void AdamMoments::update(const std::vector<Slot*>& slots, int64_t step, double learning_rate, double gradient_factor) {
  const auto has_kernel = [](const Slot* slot) {
    return optimiser_has_kernel(slot->parameter, slot->parameter.grad());
  };
  const bool by_kernel = decoupled_decay_ && std::all_of(slots.begin(), slots.end(), has_kernel);
  step_count_.fill_(step);
  for (const auto& [numbers, group] : by_decay_and_epsilon(slots)) {
    const double weight_decay = numbers.first, epsilon = numbers.second * epsilon_;
    if (by_kernel) {
      update_by_kernel(group, step, learning_rate, weight_decay, epsilon, gradient_factor);
      continue;
    }
    const auto parameters = parameters_of(group), gradients = gradients_of(group);
    const auto first = states_of(group, 0), second = states_of(group, 1);
    if (gradient_factor != 1) at::_foreach_mul_(gradients, gradient_factor);
    const std::vector<Tensor> counts(group.size(), step_count_);
    if (decoupled_decay_)
      at::_fused_adamw_(parameters, gradients, first, second, /*max_exp_avg_sqs=*/{}, counts, learning_rate, beta1_,
                        beta2_, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false);
    else
      at::_fused_adam_(parameters, gradients, first, second, /*max_exp_avg_sqs=*/{}, counts, learning_rate, beta1_,
                       beta2_, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
}

void AdamMoments::update(const std::vector<Slot*>& slots, const Tensor& learning_rate,
                         const NumbersOnDevice& numbers) const {
  const auto divisor =
      numbers.gradient_divisor.defined() ? std::optional(numbers.gradient_divisor) : std::optional<Tensor>();
  for (const auto& [decay_and_epsilon, group] : by_decay_and_epsilon(slots)) {
    const double weight_decay = decay_and_epsilon.first, epsilon = decay_and_epsilon.second * epsilon_;
    const auto parameters = parameters_of(group), gradients = gradients_of(group);
    const auto first = states_of(group, 0), second = states_of(group, 1);
    const std::vector<Tensor> counts(group.size(), numbers.update);
    if (decoupled_decay_)
      at::_fused_adamw_(parameters, gradients, first, second, /*max_exp_avg_sqs=*/{}, counts, learning_rate, beta1_,
                        beta2_, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false, divisor,
                        numbers.left_out);
    else
      at::_fused_adam_(parameters, gradients, first, second, /*max_exp_avg_sqs=*/{}, counts, learning_rate, beta1_,
                       beta2_, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false, divisor, numbers.left_out);
  }
}

AdamW::AdamW(std::vector<Slot> slots, const TrainOptions& options)
    : Optimizer(std::move(slots)), moments_(pointers_to(slots_), options, /*decoupled_decay=*/true) {}

void AdamW::update(const Slots& slots, double learning_rate) {
  moments_.update(slots, steps_taken(), learning_rate, gradient_factor_);
}

void AdamW::update_on_device(const Slots& slots, const Tensor& learning_rate, const NumbersOnDevice& numbers) {
  moments_.update(slots, learning_rate, numbers);
}

Adam::Adam(std::vector<Slot> slots, const TrainOptions& options)
    : Optimizer(std::move(slots)), moments_(pointers_to(slots_), options, /*decoupled_decay=*/false) {}

void Adam::update(const Slots& slots, double learning_rate) { moments_.update(slots, steps_taken(), learning_rate); }

void Adam::update_on_device(const Slots& slots, const Tensor& learning_rate, const NumbersOnDevice& numbers) {
  moments_.update(slots, learning_rate, numbers);
}

}  // namespace attnscale
