#pragma once

#include <cstring>

#include <ATen/EmptyTensor.h>
#include <torch/types.h>

namespace attnscale {

using torch::Tensor;

/// Room on the CPU, its numbers not set. `at::empty` asks the dispatcher for as much, which takes longer than the rest.
inline Tensor empty_on_cpu(at::IntArrayRef sizes, at::ScalarType type) {
  return Tensor(at::detail::empty_cpu(sizes, type));
}

inline Tensor zeros_on_cpu(at::IntArrayRef sizes, at::ScalarType type) {
  Tensor zeros = empty_on_cpu(sizes, type);
  std::memset(zeros.mutable_data_ptr(), 0, zeros.nbytes());
  return zeros;
}

}  // namespace attnscale
