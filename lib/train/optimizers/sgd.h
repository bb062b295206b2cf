#pragma once

#include "train/optimizer.h"

namespace attnscale {

/// Stochastic gradient descent with momentum; the weight decay is added to the gradient:
///   g <- g + decay * w;  u <- momentum * u + g
///   w <- w - rate * u, or with Nesterov's form  w <- w - rate * (g + momentum * u)
/// Source: Sutskever et al. 2013, section 2, with the rate outside of the sum, as in PyTorch. One fused pass
/// over memory.
class Sgd final : public Optimizer {
 public:
  Sgd(std::vector<Slot> slots, const TrainOptions& options);

 private:
  void update(const Slots& slots, double learning_rate) override;
  double momentum_;
  bool nesterov_;
};

}  // namespace attnscale
