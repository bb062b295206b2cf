#pragma once

#include "model/options.h"
#include "tensor/kernels/decode_kernel.h"
#include "tensor/linear.h"

// M width of what is normalised

namespace attnscale {

/// Over the last dimension:
///   layer_norm:    weight (x - mean) / sqrt(variance + epsilon) + bias    (Ba et al. 2016, arXiv:1607.06450)
///   rms_norm:      weight x / sqrt(mean(x^2) + epsilon)                   (Zhang and Sennrich 2019, arXiv:1910.07467)
///   dynamic_tanh:  weight tanh(alpha x) + bias                            (Zhu et al. 2025, arXiv:2503.10622)
///   none:          x
/// Holds `weight` [M], `bias` [M] for the kinds that have one in a model with biases, and `alpha` [1]; for none
/// nothing.
class Norm : public torch::nn::Module {
 public:
  Norm(const ModelOptions& options, const std::string& kind, int64_t width, bool with_bias);

  /// As the model's `norm` says, of its width.
  explicit Norm(const ModelOptions& options) : Norm(options, options.norm, options.model_dim, options.bias) {}

  /// @param x  [.., M] @return the same shape
  Tensor forward(const Tensor& x) const;

  /// Whether `of_sum` takes these.
  bool joins(const Tensor& x, const Tensor& added) const {
    return has_kernel_ && (norm_has_kernel(x, added, weight_) || norms_few_rows(x, added, weight_));
  }

  /// x + added and its norm, by one kernel. @param added  [.., M]; undefined: x alone
  /// @param out  dtype of the norm; that of a bfloat16 stream is bfloat16
  Normed of_sum(const Tensor& x, const Tensor& added, at::ScalarType out) const {
    const NormKind kind{.centred = kind_ == "layer_norm", .epsilon = epsilon_};
    if (x.scalar_type() == at::kBFloat16) return few_rows_norm(x, added, weight_, bias_, kind);
    return norm_kernel(x, added, weight_, bias_, kind, out);
  }

 private:
  std::string kind_;
  bool has_kernel_;
  double epsilon_;
  Tensor weight_, bias_, alpha_;
};

}  // namespace attnscale
