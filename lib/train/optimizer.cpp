#include "train/optimizer.h"

namespace attnscale {

AdamW::AdamW(std::vector<std::pair<std::string, Tensor>> parameters, const AdamWOptions& options) : options_(options) {
  groups_.resize(2);
  step_count_ = at::zeros({}, at::kFloat);
  groups_[0].weight_decay = options.weight_decay;
  for (auto& [name, parameter] : parameters) {
    auto& group = groups_[parameter.dim() >= 2 ? 0 : 1];
    group.names.push_back(std::move(name));
    group.first_moments.push_back(at::zeros_like(parameter));
    group.second_moments.push_back(at::zeros_like(parameter));
    group.parameters.push_back(std::move(parameter));
  }
  for (const auto& group : groups_)
    if (!group.parameters.empty()) step_count_ = step_count_.to(group.parameters.front().device());
}

std::vector<Tensor> AdamW::gradients() const {
  std::vector<Tensor> result;
  for (const auto& group : groups_)
    for (const auto& parameter : group.parameters)
      if (parameter.grad().defined()) result.push_back(parameter.grad());
  return result;
}

Tensor AdamW::gradient_norm() const {
  const torch::NoGradGuard no_gradients;
  const auto all = gradients();
  if (all.empty()) return at::zeros({});
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(all, 2)));
}

void AdamW::scale_gradients(double factor) {
  const torch::NoGradGuard no_gradients;
  auto all = gradients();
  if (!all.empty()) at::_foreach_mul_(all, factor);
}

void AdamW::step(double learning_rate) {
  const torch::NoGradGuard no_gradients;
  ++steps_taken_;
  step_count_.fill_(steps_taken_);
  for (const auto& group : groups_) update(group, learning_rate);
}

void AdamW::update(const Group& group, double learning_rate) {
  std::vector<Tensor> parameters, gradients, first, second;
  for (size_t i = 0; i < group.parameters.size(); ++i) {
    const auto& gradient = group.parameters[i].grad();
    if (!gradient.defined()) continue;
    parameters.push_back(group.parameters[i]);
    gradients.push_back(gradient);
    first.push_back(group.first_moments[i]);
    second.push_back(group.second_moments[i]);
  }
  if (parameters.empty()) return;
  const std::vector<Tensor> counts(parameters.size(), step_count_);
  at::_fused_adamw_(parameters, gradients, first, second, /*max_exp_avg_sqs=*/{}, counts, learning_rate, options_.beta1,
                    options_.beta2, group.weight_decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
}

void AdamW::zero_gradients() {
  for (auto& group : groups_)
    for (auto& parameter : group.parameters) parameter.mutable_grad().reset();
}

TensorMap AdamW::state() const {
  TensorMap result;
  for (const auto& group : groups_)
    for (size_t i = 0; i < group.names.size(); ++i) {
      result[group.names[i] + "/first_moment"] = group.first_moments[i];
      result[group.names[i] + "/second_moment"] = group.second_moments[i];
    }
  return result;
}

void AdamW::restore(const TensorMap& state, int64_t steps_taken) {
  const torch::NoGradGuard no_gradients;
  for (auto& [name, tensor] : this->state()) tensor.copy_(state.at(name));
  steps_taken_ = steps_taken;
}

}  // namespace attnscale
