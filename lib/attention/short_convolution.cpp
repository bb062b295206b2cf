#include "attention/short_convolution.h"

#include <cmath>

#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/silu.h>

namespace attnscale {

ShortConvolution::ShortConvolution(int64_t channels, int64_t taps, bool with_bias) : taps_(taps) {
  const double bound = 1 / std::sqrt(static_cast<double>(taps));
  weight_ = register_parameter("weight", at::empty({channels, taps}).uniform_(-bound, bound));
  if (with_bias) bias_ = register_parameter("bias", at::empty({channels}).uniform_(-bound, bound));
}

Tensor ShortConvolution::forward(const Tensor& x, const Tensor& history) const {
  const auto rows = with_history(x, history);
  const auto weights = weight_.to(x.dtype()).unbind(1);  // K x [C]
  auto sum = rows.narrow(1, 0, x.size(1)) * weights[0];
  for (int64_t j = 1; j < taps_; ++j) sum = at::addcmul(sum, rows.narrow(1, j, x.size(1)), weights[j]);
  return at::silu(bias_.defined() ? sum + bias_.to(x.dtype()) : sum);
}

Tensor ShortConvolution::next_history(const Tensor& x, const Tensor& history) const {
  const auto rows = with_history(x, history);
  return rows.narrow(1, rows.size(1) - (taps_ - 1), taps_ - 1).clone();
}

Tensor ShortConvolution::with_history(const Tensor& x, const Tensor& history) const {
  return history.defined() ? at::cat({history, x}, 1) : at::constant_pad_nd(x, {0, 0, taps_ - 1, 0}, 0);
}

}  // namespace attnscale
