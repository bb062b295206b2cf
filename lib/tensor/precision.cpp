#include "tensor/precision.h"

#include <ATen/autocast_mode.h>

namespace attnscale {

at::ScalarType weight_dtype(const std::string& train_dtype) {
  return train_dtype == "float64" ? at::kDouble : at::kFloat;
}

ForwardPrecision::ForwardPrecision(const std::string& train_dtype, at::DeviceType device)
    : mixed_(train_dtype == "bfloat16" || train_dtype == "float16"), device_(device) {
  if (!mixed_) return;
  at::autocast::set_autocast_dtype(device_, train_dtype == "float16" ? at::kHalf : at::kBFloat16);
  at::autocast::set_autocast_enabled(device_, true);
}

ForwardPrecision::~ForwardPrecision() {
  if (!mixed_) return;
  at::autocast::set_autocast_enabled(device_, false);
  at::autocast::clear_cache();  // the next step casts the updated weights anew
}

}  // namespace attnscale
