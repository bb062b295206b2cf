#pragma once

#include <ATen/ops/baddbmm.h>
#include <torch/types.h>

// B batch, G key-value heads, S positions, l positions in a slot, d from one slot to the next, m slots, W width
//
// Keys or values shortened by a learnt linear map of l positions in a row, at a stride of d: slot j takes
// positions jd .. jd + l - 1, all of which must be there.

namespace attnscale {

struct SlotCompressor {
  int64_t length = 1, stride = 1;  ///< l, d
  torch::Tensor weight;            ///< [G, l W, W]; rows i W .. (i + 1) W take position i of a slot
  torch::Tensor bias;              ///< [G W]

  static int64_t num_slots(int64_t positions, int64_t length, int64_t stride) {
    return positions < length ? 0 : (positions - length) / stride + 1;
  }

  /// [B, G, S, W] -> [B, G, m, W], one product per head. Cost: 2 B G m l W^2 FLOPs.
  torch::Tensor operator()(const torch::Tensor& x) const {
    const int64_t batch = x.size(0), groups = x.size(1), width = x.size(3),
                  slots = num_slots(x.size(2), length, stride);
    if (slots == 0) return x.narrow(2, 0, 0);
    const auto laid_out =
        x.unfold(2, length, stride).permute({1, 0, 2, 4, 3}).reshape({groups, batch * slots, length * width});
    const auto type = x.scalar_type();
    return at::baddbmm(bias.to(type).view({groups, 1, width}), laid_out, weight.to(type))
        .view({groups, batch, slots, width})
        .transpose(0, 1);
  }

  /// Which slots hold a real position: bool [B, S] -> [B, m].
  torch::Tensor any_real(const torch::Tensor& real) const {
    if (real.size(1) < length) return real.narrow(1, 0, 0);
    return real.unfold(1, length, stride).any(-1);
  }
};

}  // namespace attnscale
