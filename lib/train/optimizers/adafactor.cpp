#include "train/optimizers/adafactor.h"

#include <algorithm>
#include <cmath>

// .. leading dimensions, N rows, M columns

namespace attnscale {
namespace {

Tensor root_mean_square(const Tensor& x) {
  return at::linalg_vector_norm(x) / std::sqrt(static_cast<double>(x.numel()));
}

}  // namespace

Adafactor::Adafactor(std::vector<Slot> slots, const TrainOptions& options)
    : Optimizer(std::move(slots)),
      decay_exponent_(options.decay_exponent),
      epsilon_(*options.epsilon),
      update_clip_(options.update_clip),
      smallest_scale_(options.smallest_scale) {
  for (auto& slot : slots_) {
    const auto& w = slot.parameter;
    if (w.dim() < 2) slot.state = {{"mean_square", at::zeros_like(w)}};
    else
      slot.state = {{"row_mean_square", at::zeros_like(w.detach().narrow(-1, 0, 1)).contiguous()},      // [.., N, 1]
                    {"column_mean_square", at::zeros_like(w.detach().narrow(-2, 0, 1)).contiguous()}};  // [.., 1, M]
  }
}

/// Takes in the gradient. @param keep  b above @return V, in memory of its own
Tensor Adafactor::mean_square(const Slot& slot, double keep) const {
  const auto square = slot.parameter.grad().square();
  if (square.dim() < 2) return slot.state[0].second.lerp_(square, 1 - keep).clone();
  const auto rows = slot.state[0].second.lerp_(square.mean(-1, /*keepdim=*/true), 1 - keep);
  const auto columns = slot.state[1].second.lerp_(square.mean(-2, /*keepdim=*/true), 1 - keep);
  return rows.matmul(columns).div_(rows.mean(-2, /*keepdim=*/true).clamp_min_(epsilon_));
}

void Adafactor::update(const Slots& slots, double learning_rate) {
  const auto t = static_cast<double>(steps_taken());
  const double keep = 1 - std::pow(t, -decay_exponent_), rate = std::min(learning_rate, 1 / std::sqrt(t));
  for (auto* slot : slots) {
    auto& w = slot->parameter;
    const auto scale = root_mean_square(w).clamp_min(smallest_scale_);
    if (slot->weight_decay != 0) w.mul_(1 - learning_rate * slot->weight_decay);
    auto u = mean_square(*slot, keep).clamp_min_(epsilon_ * epsilon_).rsqrt_().mul_(slot->parameter.grad());
    const auto excess = (root_mean_square(u) / update_clip_).clamp_min(1);
    w.sub_(u.mul_(scale / excess * rate));
  }
}

}  // namespace attnscale
