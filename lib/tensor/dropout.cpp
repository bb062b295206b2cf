#include "tensor/dropout.h"

#include "tensor/kernels/dropout_kernel.h"
#include "tensor/kernels/kernels.h"

namespace attnscale {

torch::Tensor with_dropout(const torch::Tensor& x, double drop, bool training) {
  const bool draws = training && drop > 0 && drop < 1;
  if (draws && x.is_cpu() && has_kernels(x.scalar_type())) return dropout_kernel(x, drop);
  return at::dropout(x, drop, training);
}

}  // namespace attnscale
