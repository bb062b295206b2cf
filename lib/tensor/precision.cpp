#include "tensor/precision.h"

#include <ATen/autocast_mode.h>

namespace attnscale {

at::ScalarType weight_dtype(const std::string& train_dtype) {
  return train_dtype == "float64" ? at::kDouble : at::kFloat;
}

ForwardPrecision::ForwardPrecision(const std::string& train_dtype) : mixed_(train_dtype == "bfloat16") {
  if (!mixed_) return;
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, true);
}

ForwardPrecision::~ForwardPrecision() {
  if (!mixed_) return;
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();  // the next step casts the updated weights anew
}

}  // namespace attnscale
