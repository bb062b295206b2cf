#include "model/feed_forward.h"

namespace attnscale {

FeedForward::FeedForward(const ModelOptions& options) : activation_(options.feed_forward) {
  const int64_t model_dim = options.model_dim, ffn_dim = options.ffn_dim.value();
  if (activation_ == "swiglu")
    up_ = register_module("gate_up", std::make_shared<Linear>(model_dim, 2 * ffn_dim, options.bias));
  else up_ = register_module("up", std::make_shared<Linear>(model_dim, ffn_dim, options.bias));
  down_ = register_module("down", std::make_shared<Linear>(ffn_dim, model_dim, options.bias));
}

Tensor FeedForward::forward(const Tensor& x) const {
  const auto hidden = up_->forward(x);  // [.., F] or [.., 2 F]
  if (activation_ == "swiglu") {
    const auto halves = hidden.chunk(2, -1);
    return down_->forward(at::silu(halves[0]) * halves[1]);
  }
  return down_->forward(at::gelu(hidden, activation_ == "gelu_tanh" ? "tanh" : "none"));
}

}  // namespace attnscale
