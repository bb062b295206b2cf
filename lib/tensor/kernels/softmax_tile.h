#pragma once

#include <cstdint>

#include "tensor/kernels/vector_functions.h"

// What the loops of attention's softmax are told of a tile of logits.

namespace attnscale {

/// Rows of floats, and which numbers of each count: those from low[r] up to high[r], and of these, where `kept` is
/// there and rows have at most 64 numbers, those whose bit is set. Rows have room for whole vectors.
struct TileRows {
  int64_t rows, stride;
  int64_t columns;  ///< as many are zero where they do not count
  const int64_t *low, *high;
  const uint64_t* kept = nullptr;
  uint64_t bounded = 0;  ///< rows, one bit each, of whose numbers times the factor none is far from what is given as
                         ///< the highest, which stays
};

/// Of the backward pass, whose rows are keys and whose columns are queries.
struct SoftmaxGradient {
  const float *log_totals, *means;  ///< of each query: of its logits' exponentials, of the weights' gradients
  int64_t count;                    ///< queries that there are
  float factor;
  Bits16 *narrow_weights, *narrow_slopes;  ///< where they are put, rounded, with the tile's stride;
                                           ///< null: in place of logits and gradients
};

}  // namespace attnscale
