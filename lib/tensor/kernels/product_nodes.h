#pragma once

#include <vector>

#include <torch/types.h>

// What the autograd nodes of the products share.

namespace attnscale {

using torch::Tensor;

/// The same numbers without gaps; undefined stays so.
inline Tensor dense(const Tensor& x) { return x.defined() ? x.contiguous() : x; }

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

inline double product_flops(const Tensor& rows, const Tensor& weight) {
  return 2 * static_cast<double>(rows.numel() / rows.size(-1)) * static_cast<double>(weight.numel());
}

}  // namespace attnscale
