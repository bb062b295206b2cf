#include "train/clipping.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "tensor/kernels/adam_kernel.h"
#include "train/watch.h"

namespace attnscale {
namespace {

std::vector<Tensor> all_gradients(const std::vector<Slot>& slots) {
  std::vector<Tensor> result;
  for (const auto& slot : slots)
    if (slot.parameter.grad().defined()) result.push_back(slot.parameter.grad());
  return result;
}

/// Float64: squares of float32 numbers leave float32 from norms of 1.8e19 on, and vanish below 1e-23.
Tensor norm_of(const std::vector<Tensor>& tensors) {
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(tensors, 2, at::kDouble)));
}

std::map<std::string, std::vector<Tensor>> gradients_by_layer(const std::vector<Slot>& slots) {
  std::map<std::string, std::vector<Tensor>> layers;
  for (const auto& slot : slots)
    if (slot.parameter.grad().defined()) layers[layer_of(slot.name)].push_back(slot.parameter.grad());
  return layers;
}

}  // namespace

Tensor gradient_norm(const std::vector<Slot>& slots) {
  const torch::NoGradGuard no_gradients;
  const auto gradients = all_gradients(slots);
  if (gradients.empty()) return at::zeros({});
  const auto has_kernel = [](const Tensor& gradient) { return optimiser_has_kernel(gradient, gradient); };
  if (std::all_of(gradients.begin(), gradients.end(), has_kernel)) {
    const double norm = norm_of_all(gradients);  // of float32 numbers, but may be beyond them
    return at::scalar_tensor(norm > std::numeric_limits<float>::max() ? INFINITY : norm, at::kFloat);
  }
  return norm_of(gradients).to(gradients.front().scalar_type());
}

std::optional<double> common_factor(double norm, const TrainOptions& options) {
  if (options.clip == "value" || options.clip == "per_layer_norm") return std::nullopt;
  return options.clip_norm > 0 && norm > options.clip_norm ? options.clip_norm / norm : 1;
}

void clip_gradients(const std::vector<Slot>& slots, double norm, const TrainOptions& options) {
  const torch::NoGradGuard no_gradients;
  const auto gradients = all_gradients(slots);
  if (gradients.empty()) return;
  if (options.clip == "value") {
    if (options.clip_value == 0) return;
    at::_foreach_clamp_min_(gradients, -options.clip_value);
    at::_foreach_clamp_max_(gradients, options.clip_value);
  } else if (options.clip_norm > 0 && options.clip == "per_layer_norm") {
    for (const auto& [layer, own] : gradients_by_layer(slots))  // on the device: nothing here waits for it
      at::_foreach_mul_(own, (options.clip_norm / norm_of(own)).clamp_max(1).to(own.front().scalar_type()));
  } else if (const auto factor = common_factor(norm, options); factor.value_or(1) != 1) {
    at::_foreach_mul_(gradients, *factor);
  }
}

}  // namespace attnscale
