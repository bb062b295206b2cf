#include "train/optimizers/muon.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "train/optimizers/slots.h"

namespace attnscale {
namespace {

/// The slots that are such, or the others.
std::vector<Slot*> hidden_matrices(const std::vector<Slot*>& slots, bool wanted) {
  std::vector<Slot*> result;
  std::copy_if(slots.begin(), slots.end(), std::back_inserter(result),
               [wanted](const Slot* slot) { return slot->hidden_matrix == wanted; });
  return result;
}

}  // namespace

Tensor orthogonalised(const Tensor& x, int64_t iterations) {
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315, smallest_norm = 1e-7;
  const bool tall = x.size(0) > x.size(1);
  auto y = x.to(at::kBFloat16);
  if (tall) y = y.t();
  y = y / y.norm().clamp_min(smallest_norm);
  for (int64_t i = 0; i < iterations; ++i) {
    const auto gram = y.mm(y.t());                                                          // [min, min]
    y = at::addmm(y, at::addmm(gram, gram, gram, /*beta=*/b, /*alpha=*/c), y, /*beta=*/a);  // [min, max]
  }
  return tall ? y.t() : y;
}

Muon::Muon(std::vector<Slot> slots, const TrainOptions& options)
    : Optimizer(std::move(slots)),
      momentum_(*options.momentum),
      nesterov_(options.nesterov.value_or(false)),
      iterations_(options.newton_schulz_steps),
      moments_(hidden_matrices(pointers_to(slots_), false), options, /*decoupled_decay=*/true) {
  for (auto& slot : slots_)
    if (slot.hidden_matrix) slot.state = {{"momentum", at::zeros_like(slot.parameter)}};
}

void Muon::update(const Slots& slots, double learning_rate) {
  moments_.update(hidden_matrices(slots, false), steps_taken(), learning_rate);
  for (auto* slot : hidden_matrices(slots, true)) {
    auto& w = slot->parameter;
    const auto& gradient = w.grad();
    const auto momentum = slot->state[0].second.lerp_(gradient, 1 - momentum_);
    const auto direction = orthogonalised(nesterov_ ? gradient.lerp(momentum, momentum_) : momentum, iterations_);
    const double size = 0.2 * std::sqrt(static_cast<double>(std::max(w.size(0), w.size(1))));
    w.mul_(1 - learning_rate * slot->weight_decay);
    w.add_(direction, -learning_rate * size);
  }
}

}  // namespace attnscale
