#pragma once

#include <memory>

#include "tensor/linear.h"

// M width of the residual stream
//
// Linear layers for the variants that own their projections, initialised as the rest of the model is
// (GPT-2: N(0, 0.02), biases zero), so that owning them does not change how a model starts.

namespace attnscale {

/// A layer from the residual stream or inside the variant: weight [out, in] from N(0, 0.02).
std::shared_ptr<Linear> input_projection(int64_t in, int64_t out, bool with_bias = false);

/// A layer that writes into the residual stream: narrower by 1 / sqrt(2 depth).
std::shared_ptr<Linear> output_projection(int64_t in, int64_t out, int64_t depth, bool with_bias = false);

}  // namespace attnscale
