#include "tensor/linear.h"

#include "tensor/kernels/decode_kernel.h"
#include "tensor/kernels/linear_kernel.h"

namespace attnscale {

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (has_few_rows(x, weight)) return few_rows_product(x, weight, bias);
  if (const auto dtype = product_dtype(x, weight)) return linear_kernel(x, weight, bias, *dtype);
  return at::linear(x, weight, bias);
}

Linear::Linear(int64_t in, int64_t out, bool with_bias)
    : weight_(register_parameter("weight", torch::empty({out, in}))) {
  if (with_bias) bias_ = register_parameter("bias", torch::empty({out}));
}

Tensor Linear::forward(const Tensor& x) const { return attnscale::linear(x, weight_, bias_); }

Tensor Linear::rows(const Tensor& x, int64_t first, int64_t count) const {
  return attnscale::linear(x, weight_.narrow(0, first, count), bias_.defined() ? bias_.narrow(0, first, count) : bias_);
}

}  // namespace attnscale
