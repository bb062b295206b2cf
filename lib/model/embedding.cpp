#include "model/embedding.h"

#include <cmath>

#include "model/float32_parts.h"
#include "tensor/kernels/embedding_kernel.h"

namespace attnscale {

Embedding::Embedding(const ModelOptions& options, int64_t context)
    : token_(register_parameter("token", torch::empty({options.vocab_size.value(), options.embedding_dim.value()}))),
      sinusoidal_(options.position == "sinusoidal"),
      // Under muP of the base width: a wider model's embeddings are as large.
      scale_(options.embedding_scale.value()
                 ? std::sqrt(static_cast<double>(options.mup_base_dim.value_or(options.model_dim)))
                 : 1) {
  if (options.position == "learned")
    position_ = register_parameter("position", torch::empty({context, options.model_dim}));
  if (sinusoidal_) sinusoid_ = PositionTable(sinusoidal_positions(context, options.model_dim));
  if (options.embedding_dim != options.model_dim)
    up_ = register_module("up", std::make_shared<Linear>(*options.embedding_dim, options.model_dim, false));
  if (options.embedding_norm) norm_ = register_module("norm", std::make_shared<Norm>(options));
}

Tensor Embedding::forward(const Tensor& tokens, int64_t offset) {
  const bool only_adds = !up_ && !sinusoidal_ && scale_ == 1;
  if (only_adds && embedding_has_kernel(token_, position_, tokens)) {
    const auto x = embedding_kernel(token_, position_, tokens, offset);
    return norm_ ? norm_->forward(x) : x;
  }
  auto x = at::embedding(token_, tokens);  // [B, T, M] or [B, T, E]
  if (up_) x = in_float32(float32_, x, [&](const Tensor& rows) { return up_->forward(rows); });
  const int64_t count = tokens.size(1);
  if (sinusoidal_) x = at::add(sinusoid_.rows(offset, count, x), x, scale_);  // one pass: rows + scale x
  else if (scale_ != 1) x = x * scale_;
  if (position_.defined()) x = x + position_.narrow(0, offset, count);
  return norm_ ? norm_->forward(x) : x;
}

Tensor Embedding::logits(const Tensor& x) const {
  return attnscale::linear(up_ ? at::matmul(x, up_->weight()) : x, token_);
}

}  // namespace attnscale
