#include "model/embedding.h"

#include <cmath>

namespace attnscale {

Embedding::Embedding(const ModelOptions& options, int64_t context)
    : token_(register_parameter("token", torch::empty({options.vocab_size.value(), options.model_dim}))),
      sinusoidal_(options.position == "sinusoidal") {
  if (options.position == "learned")
    position_ = register_parameter("position", torch::empty({context, options.model_dim}));
  if (sinusoidal_) sinusoid_ = PositionTable(sinusoidal_positions(context, options.model_dim));
}

Tensor Embedding::forward(const Tensor& tokens, int64_t offset) {
  const auto content = at::embedding(token_, tokens);  // [B, T, M]
  const int64_t count = tokens.size(1);
  if (position_.defined()) return content + position_.narrow(0, offset, count);
  if (!sinusoidal_) return content;
  // One pass: rows + sqrt(M) content.
  return at::add(sinusoid_.rows(offset, count, content), content, std::sqrt(static_cast<double>(token_.size(1))));
}

}  // namespace attnscale
