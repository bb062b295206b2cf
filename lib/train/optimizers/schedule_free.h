#pragma once

#include "train/optimizer.h"

namespace attnscale {

/// What `schedule` schedule_free makes of AdamW and SGD: no rate that falls, but an average of the steps that the
/// gradient is taken beside. Of every weight there are three: z takes the steps, x is the mean of all z and stands for
/// the trained model, and y, the model's parameter while it trains, lies between them. With b = `beta1` (sgd:
/// `momentum`) and the warm-up's rate r at step t:
///   z <- z - r (u + decay * y),  x <- (1 - c) x + c z,  y = b x + (1 - b) z,  c = r^2 / sum of r^2 up to t
/// where u is the gradient at y, for AdamW over sqrt(v / (1 - beta2^t)) + epsilon with v <- beta2 v + (1 - beta2) g^2.
/// Kept are y and z; x = y + (1 - 1 / b)(z - y).
/// Source: Defazio et al. 2024, arXiv:2405.15682, algorithm 1 for AdamW, equations 2 to 4 for SGD; as in the authors'
/// package schedulefree 1.4, AdamW's correction of v stays out of r, and the decay acts at y.
class ScheduleFree final : public Optimizer {
 public:
  ScheduleFree(std::vector<Slot> slots, const TrainOptions& options);

  TensorMap averaged_weights() const override;

 private:
  void begin_step(double learning_rate) override;
  void update(const Slots& slots, double learning_rate) override;
  std::vector<Tensor> directions(const Slots& slots);
  bool adaptive_;
  double share_, beta2_ = 0, epsilon_ = 0;
  double newest_ = 1;    ///< c of this step: a factor of the rate is in both of its squares
  Tensor rate_squares_;  ///< float64 scalar: their sum so far
};

}  // namespace attnscale
