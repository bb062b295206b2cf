#pragma once

#include <optional>
#include <string>

#include <torch/types.h>

namespace attnscale {

/// The dtype of a run's weights, gradients and moments: float64 for "float64", otherwise float32.
at::ScalarType weight_dtype(const std::string& train_dtype);

/// The dtype of matrix products under the mixed precision that holds on this thread now; nothing if none does.
std::optional<at::ScalarType> mixed_dtype(at::DeviceType device);

/// While it lives, a forward pass computes as `train.dtype` says. For "bfloat16" and "float16" matrix products run in
/// that dtype on copies of the float32 weights, which stay the ones that are trained (mixed precision: Micikevicius et
/// al. 2018, arXiv:1710.03740, section 3.1; float16 needs its loss scaled, see LossScale). Which operators do is
/// PyTorch's autocast's choice. Otherwise it does nothing.
/// @param device  where the products are made
class ForwardPrecision {
 public:
  explicit ForwardPrecision(const std::string& train_dtype, at::DeviceType device = at::kCPU);
  /// As `mixed_dtype` told.
  ForwardPrecision(std::optional<at::ScalarType> products, at::DeviceType device);
  ~ForwardPrecision();
  ForwardPrecision(const ForwardPrecision&) = delete;
  ForwardPrecision& operator=(const ForwardPrecision&) = delete;

 private:
  bool mixed_;
  at::DeviceType device_;
};

}  // namespace attnscale
