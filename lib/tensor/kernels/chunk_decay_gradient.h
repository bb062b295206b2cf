#pragma once

#include "tensor/kernels/chunk_decay.h"

// c positions of a chunk, F features, E value width; rows lie `stride` of their width apart.

namespace attnscale {

/// Gradients of one chunk's log decays. A sum G_t of them stands with what position t reads, and against what it
/// writes; the last one of a chunk also with all that the state behind it holds. So both come from gradients of rows,
/// times the rows themselves.
template <class T>
class ChunkDecayGradient {
 public:
  ChunkDecayGradient(Decay kind, int64_t rows, int64_t features, int64_t values, Arena& arena)
      : diagonal_(kind == Decay::diagonal),
        rows_(rows),
        features_(features),
        values_(values),
        stride_(padded_width(features)),
        steps_(arena.take<float>(rows * (diagonal_ ? stride_ : 1))) {}

  /// @param state, of_state  what the chunk finds, and the gradient of what it leaves, [F, E]
  /// @param norm, of_norm    of the sum of keys likewise, [F]; norm null: there is none
  /// @param write, of_write  what the chunk's positions write, and its gradient, [c, F]
  void start(const ChunkDecay<T>& decay, const float* state, const float* of_state, const float* norm,
             const float* of_norm, const float* write, const float* of_write) {
    std::fill_n(steps_, rows_ * (diagonal_ ? stride_ : 1), 0.F);
    float* last = steps_ + (rows_ - 1) * (diagonal_ ? stride_ : 1);
    const int64_t value_stride = padded_width(values_);
    for (int64_t f = 0; f < features_; ++f) {
      float found = loops().dot(of_state + f * value_stride, state + f * value_stride, values_);
      if (norm) found += of_norm[f] * norm[f];
      last[diagonal_ ? f : 0] += decay.whole(f) * found;
    }
    for (int64_t t = 0; t < rows_; ++t) {
      const float *x = write + t * stride_, *slope = of_write + t * stride_;
      if (!diagonal_) *last += loops().dot(x, slope, features_);
      else
        for (int64_t f = 0; f < features_; ++f) last[f] += x[f] * slope[f];
    }
  }

  /// What rows that read (sign 1) or write (-1) add. @param of_rows  their gradients
  void add(const float* rows, const float* of_rows, float sign) {
    for (int64_t t = 0; t < rows_; ++t) {
      const float *x = rows + t * stride_, *slope = of_rows + t * stride_;
      if (!diagonal_) steps_[t] += sign * loops().dot(x, slope, features_);
      else
        for (int64_t f = 0; f < features_; ++f) steps_[t * stride_ + f] += sign * x[f] * slope[f];
    }
  }

  /// Ends the chunk: a step counts in its own sum and in all later ones.
  void finish() {
    const int64_t width = diagonal_ ? stride_ : 1, count = diagonal_ ? features_ : 1;
    for (int64_t t = rows_ - 2; t >= 0; --t) loops().add(steps_ + (t + 1) * width, steps_ + t * width, count);
  }
  const float* steps() const { return steps_; }  ///< [c], or [c, stride]

 private:
  bool diagonal_;
  int64_t rows_, features_, values_, stride_;
  float* steps_;
};

}  // namespace attnscale
