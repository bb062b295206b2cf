#include "train/average.h"

namespace attnscale {

WeightAverage::WeightAverage(Transformer& model, double decay) : decay_(decay) {
  for (const auto& item : model.named_parameters()) {
    names_.push_back(item.key());
    weights_.push_back(item.value().detach());
    averages_.push_back(weights_.back().clone());
  }
}

void WeightAverage::update() {
  const torch::NoGradGuard no_gradients;
  if (updates_++ == 0) at::_foreach_copy_(averages_, weights_);
  else at::_foreach_lerp_(averages_, weights_, 1 - decay_);
}

TensorMap WeightAverage::state() const {
  TensorMap result;
  for (size_t i = 0; i < names_.size(); ++i) result[names_[i]] = averages_[i];
  return result;
}

void WeightAverage::restore(const TensorMap& state, int64_t updates) {
  for (size_t i = 0; i < names_.size(); ++i) averages_[i].copy_(state.at(names_[i]));
  updates_ = updates;
}

OtherWeights::OtherWeights(Transformer& model, const TensorMap& weights) {
  if (weights.empty()) return;
  const torch::NoGradGuard no_gradients;
  for (const auto& item : model.named_parameters()) {
    own_.emplace_back(item.value().detach(), item.value().detach().clone());
    own_.back().first.copy_(weights.at(item.key()));
  }
}

OtherWeights::~OtherWeights() {
  for (auto& [parameter, own] : own_) parameter.copy_(own);
}

}  // namespace attnscale
