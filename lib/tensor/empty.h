#pragma once

#include <ATen/EmptyTensor.h>
#include <torch/types.h>

namespace attnscale {

using torch::Tensor;

/// Room on the CPU, its numbers not set. `at::empty` asks the dispatcher for as much, which takes longer than the rest.
inline Tensor empty_on_cpu(at::IntArrayRef sizes, at::ScalarType type) {
  return Tensor(at::detail::empty_cpu(sizes, type));
}

}  // namespace attnscale
