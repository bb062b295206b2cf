#include "model/reconstruction.h"

#include "model/position.h"
#include "model/scaled.h"

namespace attnscale {

Reconstruction::Reconstruction(const ModelOptions& options, int64_t context)
    : sinusoid_(sinusoidal_positions(context, options.model_dim)),
      input_scale_(1 / width_multiple(options)),
      norm1_(register_module("norm1", std::make_shared<Norm>(options))),
      norm2_(register_module("norm2", std::make_shared<Norm>(options))) {
  const int64_t M = options.model_dim;
  first_ = register_module("first", std::make_shared<Linear>(M, M, options.bias));
  second_ = register_module("second", std::make_shared<Linear>(M, M, options.bias));
}

Tensor Reconstruction::forward(const Tensor& x) {
  const int64_t T = x.size(1);
  auto y = x.narrow(1, T - 1, 1) + sinusoid_.rows(0, T, x);  // [B, T, M]
  y = at::gelu(first_->forward(scaled(norm1_->forward(y), input_scale_)));
  return at::gelu(second_->forward(scaled(norm2_->forward(y), input_scale_)));
}

}  // namespace attnscale
