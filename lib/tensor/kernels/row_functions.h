#pragma once

#include <cstdint>

#include "tensor/kernels/vector_functions.h"

namespace attnscale {

/// What one update of AdamW does to a run of numbers.
struct AdamStep {
  float gradient_factor;    ///< of clipping: gradients are multiplied by it first
  float kept;               ///< 1 - rate * decay
  float new1, beta2, new2;  ///< 1 - beta1; beta2 and 1 - beta2
  float size;               ///< rate / (1 - beta1^t)
  float root;               ///< sqrt(1 - beta2^t)
  float epsilon;
};

/// Which numbers of a run stay, each by chance and for itself: number 64 b + 16 w + l does where word w of
/// Philox4x32-10 of the counter 16 b + l and this key is less than a threshold (Salmon et al. 2011, "Parallel random
/// numbers: as easy as 1, 2, 3", SC11, section 3), whatever threads and instructions there are.
struct Drops {
  uint64_t key;
  uint32_t threshold;  ///< the share that stays, times 2^32
  float factor;        ///< of what stays
};

struct NormRows;      // norm_rows.h
struct NormGradient;  // likewise

/// The loops of a training step and of decoding that go along rows, as VectorFunctions: float32 arithmetic, fixed
/// order, no allocation, no overlap.
struct RowFunctions {
  void (*norm)(const NormRows& rows);
  void (*norm_backward)(const NormGradient& rows);

  /// ln sum exp(row), NaN where a number is NaN or the largest infinite; and the sum of the row
  float (*log_sum_exp)(const float* row, int64_t count, float* sum);

  /// out = factor exp(row - log_total) - shift
  void (*softmax_gradient)(const float* row, float log_total, float factor, float shift, float* out, int64_t count);

  float (*sum_of_squares)(const float* x, int64_t count);
  void (*adam)(const AdamStep& step, const float* gradient, float* weight, float* first, float* second, int64_t count);

  /// sum += each of some rows, `stride` apart
  void (*sum_rows)(const float* matrix, int64_t stride, int64_t rows, float* sum, int64_t columns);
  void (*sum_rows16)(const Bits16* matrix, int64_t stride, int64_t rows, float* sum, int64_t columns);

  /// out[r] = matrix[r] . x for rows `stride` apart
  void (*dots)(const float* matrix, int64_t stride, int64_t rows, const float* x, float* out, int64_t columns);
  void (*dots16)(const Bits16* matrix, int64_t stride, int64_t rows, const float* x, float* out, int64_t columns);

  /// out = sum_r weights[r] matrix[r] for rows `stride` apart
  void (*weighted_sum)(const float* matrix, int64_t stride, int64_t rows, const float* weights, float* out,
                       int64_t columns);
  void (*weighted_sum16)(const Bits16* matrix, int64_t stride, int64_t rows, const float* weights, float* out,
                         int64_t columns);

  /// Of each of some heads, `stride` apart: numbers i and i + half turned as one pair by the angles i of a position.
  void (*turn)(const float* in, int64_t stride, int64_t heads, const float* cosine, const float* sine, int64_t half,
               float* out, int64_t out_stride);
  void (*turn16)(const Bits16* in, int64_t stride, int64_t heads, const float* cosine, const float* sine, int64_t half,
                 Bits16* out, int64_t out_stride);

  /// out = 0 or factor times in, by the mask of `Drops`; from its number `first` on, a multiple of 64
  void (*drop)(const Drops& drops, uint64_t first, const float* in, float* out, int64_t count);
  void (*drop16)(const Drops& drops, uint64_t first, const Bits16* in, Bits16* out, int64_t count);
};

/// As `vector_functions`; null where that is.
const RowFunctions* find_row_functions();
inline const RowFunctions* row_functions() {
  static const RowFunctions* const found = find_row_functions();
  return found;
}

}  // namespace attnscale
