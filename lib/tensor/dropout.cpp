#include "tensor/dropout.h"

#include "tensor/kernels/dropout_kernel.h"

namespace attnscale {

torch::Tensor with_dropout(const torch::Tensor& x, double drop, bool training) {
  if (training && drop > 0 && drop < 1 && dropout_has_kernel(x)) return dropout_kernel(x, drop);
  return at::dropout(x, drop, training);
}

}  // namespace attnscale
