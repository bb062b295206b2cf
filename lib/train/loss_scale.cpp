#include "train/loss_scale.h"

namespace attnscale {
namespace {

// Beyond this a loss of a few nats is no float32 any more.
constexpr double largest_scale = 0x1p100;

}  // namespace

LossScale::LossScale(const TrainOptions& options) {
  if (options.dtype != "float16") return;
  value_ = *options.loss_scale;
  growth_every_ = options.loss_scale_growth_every;
}

void LossScale::succeeded() {
  if (growth_every_ == 0 || ++steps_since_change_ < growth_every_) return;
  steps_since_change_ = 0;
  if (value_ < largest_scale) value_ *= 2;
}

bool LossScale::overflowed() {
  if (growth_every_ == 0 || value_ <= 1) return false;
  value_ /= 2;
  steps_since_change_ = 0;
  return true;
}

void LossScale::restore(double value, int64_t steps_since_change) {
  value_ = value;
  steps_since_change_ = steps_since_change;
}

}  // namespace attnscale
