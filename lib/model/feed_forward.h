#pragma once

#include <memory>

#include "model/options.h"
#include "tensor/linear.h"

// M model width, F ffn_dim

namespace attnscale {

/// The network applied to each position by itself.
///   gelu, gelu_tanh, relu, silu:  down(f(up(x)))               (GELU: Hendrycks and Gimpel 2016, arXiv:1606.08415)
///   relu_squared:                 down(relu(up(x))^2)          (So et al. 2021, arXiv:2109.08668, section 4.1)
///   swiglu:                       down(silu(gate(x)) * up(x))  (Shazeer 2020, arXiv:2002.05202, equation 6)
///   geglu, geglu_tanh, reglu:     the same with gelu, gelu_tanh, relu for silu
/// Holds `up` [F, M] or, gated, `gate_up` [2 F, M] (gate's rows first, so that both are one product), and `down` [M,
/// F].
class FeedForward : public torch::nn::Module {
 public:
  explicit FeedForward(const ModelOptions& options);

  /// @param x  [.., M] @return the same shape
  Tensor forward(const Tensor& x) const;

 private:
  std::string kind_;
  double input_scale_;  // 1 / m of muP
  std::shared_ptr<Linear> up_, down_;
};

}  // namespace attnscale
