#include "model/feed_forward.h"

#include "model/scaled.h"
#include "tensor/kernels/decode_kernel.h"
#include "tensor/kernels/feed_forward_kernel.h"
#include "tensor/kernels/linear_kernel.h"

namespace attnscale {
namespace {

/// What `kind` applies to the projection, or a gated kind to its gate.
Tensor activated(const Tensor& x, const std::string& kind) {
  if (kind == "gelu" || kind == "geglu") return at::gelu(x);
  if (kind == "gelu_tanh" || kind == "geglu_tanh") return at::gelu(x, "tanh");
  if (kind == "silu" || kind == "swiglu") return at::silu(x);
  if (kind == "relu_squared") return at::relu(x).square();
  return at::relu(x);  // relu, reglu
}

Activation activation_of(const std::string& kind) {
  if (kind == "gelu" || kind == "geglu") return Activation::gelu;
  if (kind == "gelu_tanh" || kind == "geglu_tanh") return Activation::gelu_tanh;
  if (kind == "silu" || kind == "swiglu") return Activation::silu;
  return kind == "relu_squared" ? Activation::relu_squared : Activation::relu;  // relu, reglu
}

}  // namespace

FeedForward::FeedForward(const ModelOptions& options)
    : kind_(options.feed_forward), input_scale_(1 / width_multiple(options)) {
  const int64_t model_dim = options.model_dim, ffn_dim = options.ffn_dim.value();
  if (is_gated(kind_)) up_ = register_module("gate_up", std::make_shared<Linear>(model_dim, 2 * ffn_dim, options.bias));
  else up_ = register_module("up", std::make_shared<Linear>(model_dim, ffn_dim, options.bias));
  down_ = register_module("down", std::make_shared<Linear>(ffn_dim, model_dim, options.bias));
}

Tensor FeedForward::forward(const Tensor& x) const {
  const bool few = has_few_rows(x, up_->weight()) && has_few_rows(x, down_->weight());
  if (few && input_scale_ == 1)
    return few_rows_feed_forward(x, up_->weight(), up_->bias(), down_->weight(), down_->bias(), activation_of(kind_),
                                 is_gated(kind_));
  const auto dtype = few ? std::nullopt : product_dtype(x, up_->weight());
  if (dtype && input_scale_ == 1)
    return feed_forward_kernel(x, up_->weight(), up_->bias(), down_->weight(), down_->bias(), activation_of(kind_),
                               is_gated(kind_), *dtype);
  const auto hidden = up_->forward(scaled(x, input_scale_));  // [.., F] or [.., 2 F]
  if (!is_gated(kind_)) return down_->forward(scaled(activated(hidden, kind_), input_scale_));
  const auto halves = hidden.chunk(2, -1);
  return down_->forward(scaled(activated(halves[0], kind_) * halves[1], input_scale_));
}

}  // namespace attnscale
