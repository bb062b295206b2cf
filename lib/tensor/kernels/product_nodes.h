#pragma once

#include <optional>
#include <vector>

#include <torch/types.h>

// What the autograd nodes of the products share.

namespace attnscale {

using torch::Tensor;

inline Tensor or_undefined(const std::optional<Tensor>& tensor) { return tensor.value_or(Tensor()); }
inline std::optional<Tensor> if_defined(const Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

/// Runs a template for float or at::BFloat16.
template <class Work>
auto with_type(at::ScalarType dtype, const Work& work) {
  return dtype == at::kBFloat16 ? work.template operator()<at::BFloat16>() : work.template operator()<float>();
}

inline std::vector<int64_t> shape_with_last(const Tensor& x, int64_t last) {
  auto shape = x.sizes().vec();
  shape.back() = last;
  return shape;
}

/// Which inputs want a gradient, one bit each. (AutogradContext::needs_input_grad leaves out those that are undefined.)
inline int64_t wanted_of(std::initializer_list<Tensor> inputs) {
  int64_t result = 0, bit = 1;
  for (const auto& input : inputs) {
    if (input.defined() && input.requires_grad()) result |= bit;
    bit *= 2;
  }
  return result;
}

inline double product_flops(const Tensor& rows, const Tensor& weight) {
  return 2 * static_cast<double>(rows.numel() / rows.size(-1)) * static_cast<double>(weight.numel());
}

}  // namespace attnscale
