#pragma once

#include <torch/types.h>

// T positions, M model width

namespace attnscale {

using torch::Tensor;

/// Numbers that depend on the position only, one row each. Kept in float64 and cast once for each dtype and device in
/// use; no parameter and no buffer, so that checkpoints and optimisers never see it.
class PositionTable {
 public:
  PositionTable() = default;

  /// @param rows  float64 [context, width]
  explicit PositionTable(Tensor rows) : exact_(std::move(rows)) {}

  /// @return rows [offset, offset + count) with the dtype and device of `like`
  Tensor rows(int64_t offset, int64_t count, const Tensor& like);

 private:
  Tensor exact_, cast_;
};

/// sin(t w_i) at column 2i and cos(t w_i) at 2i + 1, with w_i = 10000^(-2i / M).
/// Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
/// @return float64 [context, model_dim]
Tensor sinusoidal_positions(int64_t context, int64_t model_dim);

}  // namespace attnscale
