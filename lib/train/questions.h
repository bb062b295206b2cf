#pragma once

#include <torch/types.h>

#include "data/source.h"
#include "model/options.h"

// R rows, T context, N targets of a window: T for heads that speak of every position

namespace attnscale {

using torch::Tensor;

/// Stands at the targets that do not count.
inline constexpr int64_t not_asked = -100;

/// What a model reads of a batch, and what its head (model.head) is asked for.
///   next_token:   reads the first T tokens of a window, is asked for the last T
///   reconstruct:  reads the first T tokens, is asked for the same ones
struct Questions {
  Tensor inputs;   ///< int64 [R, T]
  Tensor targets;  ///< int64 [R, N], `not_asked` where a target does not count
};

/// Views of the batch where every target counts: the batch must outlive them.
Questions questions_of(const Batch& batch, const ModelOptions& model);

}  // namespace attnscale
