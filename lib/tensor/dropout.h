#pragma once

#include <torch/types.h>

namespace attnscale {

/// While training, each number is 0 with probability `drop`, and otherwise divided by 1 - drop (Srivastava et al. 2014,
/// "Dropout", JMLR 15, section 10, who multiply at evaluation instead). Draws from LibTorch's default generator, by the
/// kernel where there is one, or by `at::dropout`: other numbers.
torch::Tensor with_dropout(const torch::Tensor& x, double drop, bool training);

}  // namespace attnscale
