#include "model/norm.h"

namespace attnscale {

Norm::Norm(const ModelOptions& options)
    : root_mean_square_(options.norm == "rms_norm"),
      epsilon_(options.norm_epsilon),
      weight_(register_parameter("weight", torch::empty({options.model_dim}))) {
  if (options.bias && !root_mean_square_) bias_ = register_parameter("bias", torch::empty({options.model_dim}));
}

Tensor Norm::forward(const Tensor& x) const {
  if (root_mean_square_) return at::rms_norm(x, weight_.sizes(), weight_, epsilon_);
  return at::layer_norm(x, weight_.sizes(), weight_, bias_, epsilon_);
}

}  // namespace attnscale
