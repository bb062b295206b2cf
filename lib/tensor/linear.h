#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

namespace attnscale {

using torch::Tensor;

/// x W^T + b, by the program's own kernel where there is one for this processor and dtype, otherwise by LibTorch.
/// @param x  [.., in] @param weight  [out, in] @param bias  [out] or undefined @return [.., out]
/// Cost: 2 in out FLOPs for each row.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

/// y = x W^T + b. Holds `weight` [out, in] and, if asked, `bias` [out].
class Linear : public torch::nn::Module {
 public:
  /// Parameters are not set yet: `initialise` does that for a whole model.
  Linear(int64_t in, int64_t out, bool with_bias);

  /// @param x  [.., in] @return [.., out]. Cost: 2 in out FLOPs for each row.
  Tensor forward(const Tensor& x) const;

  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }  ///< undefined: none

  /// The product with some of the outputs alone. @return [.., count]
  Tensor rows(const Tensor& x, int64_t first, int64_t count) const;

 private:
  Tensor weight_, bias_;
};

}  // namespace attnscale
