#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

// B batch, T positions, C channels, K taps
//
// The short causal convolution that recurrent blocks put before their recurrence.

namespace attnscale {

using torch::Tensor;

/// y_t = silu(bias + sum_j weight[:, j] x_{t - K + 1 + j}), each channel by itself, zeros before the first position.
/// Holds `weight` [C, K] (the last tap meets the position itself, as in a PyTorch convolution) and, if asked, `bias`
/// [C], both uniform within 1 / sqrt(K), PyTorch's own initial values. As K products of shifted rows: K is 4, and a
/// grouped convolution is slower on a CPU. No matrix products.
class ShortConvolution : public torch::nn::Module {
 public:
  ShortConvolution(int64_t channels, int64_t taps, bool with_bias);

  /// @param x [B, T, C], history [B, K - 1, C] the rows before, or undefined for zeros @return [B, T, C]
  Tensor forward(const Tensor& x, const Tensor& history) const;

  /// The K - 1 newest rows, for the next call.
  Tensor next_history(const Tensor& x, const Tensor& history) const;

  static int64_t parameter_count(int64_t channels, int64_t taps, bool with_bias) {
    return channels * (taps + (with_bias ? 1 : 0));
  }

 private:
  Tensor with_history(const Tensor& x, const Tensor& history) const;

  int64_t taps_;
  Tensor weight_, bias_;
};

}  // namespace attnscale
