#pragma once

#include <cstdint>

#include "tensor/kernels/vector_functions.h"

// What the loops of a feed-forward network's backward pass are told of some rows.

namespace attnscale {

/// Rows [rows, columns], at most 64 columns, without gaps where it does not say otherwise. Where the activation's value
/// was multiplied with a factor, the second of two pointers is about that. What nobody wants is null.
struct ActivationRows {
  Activation kind;
  int64_t rows, columns;
  const Bits16 *in, *factor;  ///< what the activation read; what its value was multiplied with, null: nothing
  const float* gradient;      ///< of what was put out
  Bits16* out[2];             ///< get the gradients of `in` and `factor`, rows `stride` apart
  int64_t stride;
  Bits16* panels[2];    ///< get the same as pairs of rows, as `pair_panel` puts them
  Bits16* value_panel;  ///< gets what was put out, again, likewise
  float* sums[2];       ///< the gradients' sums over the rows are added: [columns]
};

}  // namespace attnscale
