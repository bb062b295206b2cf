#pragma once

#include <cstdint>

#include "tensor/kernels/vector_functions.h"

// What the loops of norms are told of some rows, which lie one after the other. Pointers may be null where it says so.

namespace attnscale {

struct NormRows {
  int64_t count, width;
  const float* x;
  float* sum;                  ///< gets x and what is added, which then is what is normalised; null: x is
  const float* added;          ///< this is added, or
  const Bits16* added16;       ///< where that is null, this
  const float *weight, *bias;  ///< of the norm: [width]; bias may be null
  float epsilon;
  bool centred;    ///< the mean is taken off first
  float* moments;  ///< gets each row's mean (0 unless centred), and 1 / sqrt(mean((x - mean)^2) + epsilon)
  float* out;      ///< gets weight (x - mean) inverse + bias, or
  Bits16* out16;   ///< where this is not null, this does
};

struct NormGradient {
  int64_t count, width;
  const float *x, *moments, *weight;  ///< as above
  bool centred;
  const float* gradient;       ///< of the norm's output, or
  const Bits16* gradient16;    ///< where that is null, this
  const float* beside;         ///< is added to the gradient of x; may be null
  float* of_x;                 ///< may be `beside`
  Bits16* of_x16;              ///< gets the same, rounded; may be null
  float *of_weight, *of_bias;  ///< are added to; of_bias may be null
};

}  // namespace attnscale
