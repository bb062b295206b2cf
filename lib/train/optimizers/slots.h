#pragma once

#include <map>
#include <vector>

#include "train/optimizer.h"

// Lists of tensors, in one order, as the fused kernels and the foreach functions take them.

namespace attnscale {

inline std::vector<Slot*> pointers_to(std::vector<Slot>& slots) {
  std::vector<Slot*> result;
  for (auto& slot : slots) result.push_back(&slot);
  return result;
}

/// The kernels take one weight decay and one epsilon for a list.
inline std::map<std::pair<double, double>, std::vector<Slot*>> by_decay_and_epsilon(const std::vector<Slot*>& slots) {
  std::map<std::pair<double, double>, std::vector<Slot*>> groups;
  for (auto* slot : slots) groups[{slot->weight_decay, slot->epsilon_factor}].push_back(slot);
  return groups;
}

/// The same for optimisers without an epsilon.
inline std::map<double, std::vector<Slot*>> by_weight_decay(const std::vector<Slot*>& slots) {
  std::map<double, std::vector<Slot*>> groups;
  for (auto* slot : slots) groups[slot->weight_decay].push_back(slot);
  return groups;
}

inline std::vector<Tensor> parameters_of(const std::vector<Slot*>& slots) {
  std::vector<Tensor> result;
  for (const auto* slot : slots) result.push_back(slot->parameter);
  return result;
}

inline std::vector<Tensor> gradients_of(const std::vector<Slot*>& slots) {
  std::vector<Tensor> result;
  for (const auto* slot : slots) result.push_back(slot->parameter.grad());
  return result;
}

/// State number `index` of each.
inline std::vector<Tensor> states_of(const std::vector<Slot*>& slots, size_t index) {
  std::vector<Tensor> result;
  for (const auto* slot : slots) result.push_back(slot->state.at(index).second);
  return result;
}

}  // namespace attnscale
