#pragma once

#include "model/options.h"
#include "tensor/linear.h"

// M model width

namespace attnscale {

/// LayerNorm (Ba et al. 2016, arXiv:1607.06450) or RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467) over the last
/// dimension. Holds `weight` [M] and, for LayerNorm in a model with biases, `bias` [M].
class Norm : public torch::nn::Module {
 public:
  explicit Norm(const ModelOptions& options);

  /// @param x  [.., M] @return the same shape
  Tensor forward(const Tensor& x) const;

 private:
  bool root_mean_square_;
  double epsilon_;
  Tensor weight_, bias_;
};

}  // namespace attnscale
