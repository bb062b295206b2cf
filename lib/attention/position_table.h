#pragma once

#include <torch/types.h>

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

}  // namespace attnscale
