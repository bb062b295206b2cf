#pragma once

#include "train/optimizer.h"

namespace attnscale {

/// First and second moments of the gradient, in the parameter's dtype:
///   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
///   w <- w - rate * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)
/// Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1. Epsilon is times the slot's factor. One fused pass over
/// memory for each weight decay and epsilon.
class AdamMoments {
 public:
  /// Gives `first_moment` and `second_moment` to the slots.
  AdamMoments(const std::vector<Slot*>& slots, const TrainOptions& options, bool decoupled_decay);

  /// Update number `step` of slots that have a gradient.
  /// @param gradient_factor  gradients are multiplied by it, on the fly where there is a kernel for that
  void update(const std::vector<Slot*>& slots, int64_t step, double learning_rate, double gradient_factor = 1);

  /// Likewise by numbers on the device.
  void update(const std::vector<Slot*>& slots, const Tensor& learning_rate, const NumbersOnDevice& numbers) const;

 private:
  void update_by_kernel(const std::vector<Slot*>& slots, int64_t step, double learning_rate, double weight_decay,
                        double epsilon, double gradient_factor) const;

  double beta1_, beta2_, epsilon_;
  bool decoupled_decay_;
  Tensor step_count_;  ///< float32 scalar that the fused kernel reads
};

/// Adam with the weight decay apart from the gradient: w <- w - rate * decay * w before the rest.
/// Source: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2; the decay is multiplied by the current rate, as
/// in PyTorch. On the CPU in float32 by `adamw_kernel`.
class AdamW final : public Optimizer {
 public:
  AdamW(std::vector<Slot> slots, const TrainOptions& options);

 private:
  bool scales_gradients() const override { return true; }
  void update(const Slots& slots, double learning_rate) override;
  void update_on_device(const Slots& slots, const Tensor& learning_rate, const NumbersOnDevice& numbers) override;
  AdamMoments moments_;
};

/// Adam as it was first: the weight decay is added to the gradient, g <- g + decay * w, and goes through the moments.
class Adam final : public Optimizer {
 public:
  Adam(std::vector<Slot> slots, const TrainOptions& options);

 private:
  void update(const Slots& slots, double learning_rate) override;
  void update_on_device(const Slots& slots, const Tensor& learning_rate, const NumbersOnDevice& numbers) override;
  AdamMoments moments_;
};

}  // namespace attnscale
