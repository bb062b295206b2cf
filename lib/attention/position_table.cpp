#include "attention/position_table.h"

namespace attnscale {

Tensor PositionTable::rows(int64_t offset, int64_t count, const Tensor& like) {
  if (!cast_.defined() || cast_.dtype() != like.dtype() || cast_.device() != like.device())
    cast_ = exact_.to(like.device(), like.scalar_type());
  return cast_.narrow(0, offset, count);
}

}  // namespace attnscale
