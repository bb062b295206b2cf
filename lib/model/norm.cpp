#include "model/norm.h"

namespace attnscale {

Norm::Norm(const ModelOptions& options, const std::string& kind, int64_t width, bool with_bias)
    : kind_(kind), has_kernel_(kind == "layer_norm" || kind == "rms_norm"), epsilon_(options.norm_epsilon) {
  if (kind == "none") return;
  if (kind == "dynamic_tanh") alpha_ = register_parameter("alpha", torch::empty({1}));
  weight_ = register_parameter("weight", torch::empty({width}));
  if (with_bias && kind != "rms_norm") bias_ = register_parameter("bias", torch::empty({width}));
}

Tensor Norm::forward(const Tensor& x) const {
  if (kind_ == "none") return x;
  if (joins(x, {})) return of_sum(x, {}, at::kFloat).norm;
  if (kind_ == "rms_norm") return at::rms_norm(x, weight_.sizes(), weight_, epsilon_);
  if (kind_ == "layer_norm") return at::layer_norm(x, weight_.sizes(), weight_, bias_, epsilon_);
  const auto squashed = at::tanh(alpha_ * x);
  return bias_.defined() ? at::addcmul(bias_, squashed, weight_) : squashed * weight_;
}

}  // namespace attnscale
