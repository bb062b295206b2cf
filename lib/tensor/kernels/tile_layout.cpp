#include <algorithm>

#include "tensor/kernels/attention_kernel.h"
#include "tensor/kernels/tiles.h"

namespace attnscale {

void TileLayout::append(const std::vector<int64_t>& tiles, const std::vector<uint64_t>& seen) {
  constexpr int64_t side = panel_columns;
  for (size_t i = 0; i < tiles.size(); ++i) {
    const auto begin = seen.begin() + static_cast<int64_t>(i) * side;
    if (std::all_of(begin, begin + side, [](uint64_t bits) { return bits == 0; })) continue;
    key_tiles.push_back(tiles[i]);
    by_query.insert(by_query.end(), begin, begin + side);
    for (int64_t s = 0; s < side; ++s) {
      uint64_t queries = 0;
      for (int64_t t = 0; t < side; ++t) queries |= (begin[t] >> s & 1) << t;
      by_key.push_back(queries);
    }
  }
  first.push_back(std::ssize(key_tiles));
}

}  // namespace attnscale
