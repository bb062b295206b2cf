#include <algorithm>

#include "tensor/kernels/attention_kernel.h"
#include "tensor/kernels/kernel_shapes.h"
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

void check_layout(const TileLayout& layout, int64_t queries, int64_t keys) {
  const int64_t query_tiles = panels_of(queries), key_tiles = panels_of(keys), meetings = std::ssize(layout.key_tiles);
  TORCH_CHECK(std::ssize(layout.first) == query_tiles + 1 && layout.first.front() == 0 &&
                  layout.first.back() == meetings && std::is_sorted(layout.first.begin(), layout.first.end()),
              "attention_kernel: a layout of ", std::ssize(layout.first) - 1, " tiles of queries, expected ",
              query_tiles, " for ", queries, " queries, with as many meetings as it has key tiles (", meetings, ")");
  TORCH_CHECK(
      std::ssize(layout.by_query) == meetings * panel_columns && std::ssize(layout.by_key) == meetings * panel_columns,
      "attention_kernel: a layout of ", meetings, " meetings with ", layout.by_query.size(), " and ",
      layout.by_key.size(), " rows of bits, expected ", meetings * panel_columns);
  for (const int64_t at : layout.key_tiles)
    TORCH_CHECK(at >= 0 && at < key_tiles, "attention_kernel: a layout with key tile ", at, ", expected less than ",
                key_tiles, " for ", keys, " keys");
}

}  // namespace attnscale
