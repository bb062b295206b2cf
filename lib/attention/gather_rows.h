#pragma once

#include <ATen/ops/arange.h>
#include <torch/types.h>

namespace attnscale {

/// Rows of each matrix by index: x [N, Q, X] at int64 index [N, K] -> [N, K, X]. As one flat selection, whose gradient
/// is added row by row (that of `gather` would be added number by number).
inline torch::Tensor gather_rows(const torch::Tensor& x, const torch::Tensor& index) {
  const int64_t n = x.size(0), q = x.size(1);
  const auto base = at::arange(n, index.options()).unsqueeze(1) * q;
  return x.reshape({n * q, x.size(2)}).index_select(0, (index + base).flatten()).view({n, index.size(1), x.size(2)});
}

}  // namespace attnscale
