#pragma once

#include <memory>

#include "attention/attention.h"
#include "attention/short_convolution.h"
#include "tensor/linear.h"

// B batch, H heads, T positions, M width of the residual stream, C convolved channels, K taps
//
// What the published blocks around a gated recurrence have in common: one projection in, a short causal convolution
// over part of it, a decay for each head from a rate and a step, one projection out. The recurrence between them is
// the variant's own.

namespace attnscale {

class ConvolvedBlock : public Attention {
 public:
  struct Shape {
    int64_t projected;                ///< numbers per position after the first projection
    int64_t convolved;                ///< C, of those
    int64_t taps;                     ///< K
    bool convolution_bias;            ///< whether the convolution has one
    int64_t state_rows, state_width;  ///< of each head's state
    int64_t inner;                    ///< numbers per position before the last projection
  };
  ConvolvedBlock(const Geometry& geometry, const Shape& shape);

  Tensor forward(const Inputs& in) override { return run(in, nullptr); }

  /// `rows` [B, K - 1, C], what the convolution saw last, and `state` [B, H, rows, width].
  State new_state(int64_t batch, torch::TensorOptions options) const override;

  Tensor decode(const Inputs& in, State& state) override;

 protected:
  /// Everything between the projections, with sums in float32 at least: [B, T, projected] -> [B, T, inner]. With a
  /// state, goes on from it and leaves the new one there. @param products  dtype of kernels' products
  virtual Tensor mixed(const Tensor& projected, const Tensor& key_padding, State* state,
                       at::ScalarType products) const = 0;

  /// Bytes of the state of `batch` sequences.
  static int64_t state_bytes(const Shape& shape, int64_t heads, int64_t batch);

  std::shared_ptr<Linear> in_, out_;
  std::shared_ptr<ShortConvolution> convolution_;
  Tensor log_rate_, step_bias_;  // [H]

 private:
  Tensor run(const Inputs& in, State* state) const;

  Shape shape_;
};

}  // namespace attnscale
