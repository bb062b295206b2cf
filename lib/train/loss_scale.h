#pragma once

#include "train/options.h"

namespace attnscale {

/// The factor that keeps float16 gradients from rounding to zero: the loss is multiplied by it before the backward
/// pass, and the gradients of the float32 weights are divided by it after. A step whose gradients overflow is left out
/// and halves it; `loss_scale_growth_every` steps in a row without one double it. Powers of two change no digit.
///
/// Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2; the dynamic form is that of torch.amp.GradScaler.
/// Unlike it, this one ends: gradients that overflow without any scale are a divergence.
class LossScale {
 public:
  /// Of 1, for ever, unless dtype is float16. @param options  resolved
  explicit LossScale(const TrainOptions& options);

  double value() const { return value_; }
  int64_t steps_since_change() const { return steps_since_change_; }

  /// After a step whose gradients were finite.
  void succeeded();

  /// After one whose gradients were not. @return whether a smaller scale is left to try
  bool overflowed();

  /// Takes over what `value` and `steps_since_change` gave.
  void restore(double value, int64_t steps_since_change);

 private:
  double value_ = 1;
  int64_t steps_since_change_ = 0;
  int64_t growth_every_ = 0;  // 0: it does not move
};

}  // namespace attnscale
