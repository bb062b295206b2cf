#include "bench/computed_flops.h"

#include "tensor/flop_counter.h"
#include "tensor/kernels/tiles.h"

namespace attnscale {

double computed_flops(const std::function<void()>& work) {
  const double tiles = tile_flops();
  const FlopCounter flops;
  work();
  double computed = tile_flops() - tiles - flops.behind_causal_masks();
  for (const auto& [name, of_operator] : flops.by_operator())
    if (!name.starts_with("attnscale::")) computed += of_operator;  // kernels count by their tiles
  return computed;
}

}  // namespace attnscale
