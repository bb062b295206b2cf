#include "tensor/precision.h"

#include <ATen/autocast_mode.h>

namespace attnscale {

at::ScalarType weight_dtype(const std::string& train_dtype) {
  return train_dtype == "float64" ? at::kDouble : at::kFloat;
}

std::optional<at::ScalarType> mixed_dtype(at::DeviceType device) {
  if (!at::autocast::is_autocast_enabled(device)) return std::nullopt;
  return at::autocast::get_autocast_dtype(device);
}

ForwardPrecision::ForwardPrecision(const std::string& train_dtype, at::DeviceType device)
    : ForwardPrecision(train_dtype == "bfloat16"  ? std::optional(at::kBFloat16)
                       : train_dtype == "float16" ? std::optional(at::kHalf)
                                                  : std::nullopt,
                       device) {}

ForwardPrecision::ForwardPrecision(std::optional<at::ScalarType> products, at::DeviceType device)
    : mixed_(products.has_value()), device_(device) {
  if (!mixed_) return;
  at::autocast::set_autocast_dtype(device_, *products);
  at::autocast::set_autocast_enabled(device_, true);
}

ForwardPrecision::~ForwardPrecision() {
  if (!mixed_) return;
  at::autocast::set_autocast_enabled(device_, false);
  at::autocast::clear_cache();  // the next step casts the updated weights anew
}

}  // namespace attnscale
