#pragma once

#include <torch/types.h>

// T positions, M model width

namespace attnscale {

using torch::Tensor;

/// sin(t w_i) at column 2i and cos(t w_i) at 2i + 1, with w_i = 10000^(-2i / M).
/// Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
/// @return float64 [context, model_dim]
Tensor sinusoidal_positions(int64_t context, int64_t model_dim);

}  // namespace attnscale
