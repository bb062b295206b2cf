#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "tensor/kernels/attention_kernel.h"
#include "tensor/kernels/tiles.h"

namespace attnscale {

constexpr int64_t tile = panel_columns;  // queries, and keys
constexpr int64_t span = 4 * tile;       // of the other side, worked on at once
constexpr int64_t row_stride =
    span + 32;  // of a tile's rows: no power of two, or they would compete for the same places of a cache

/// What one call of the attention kernel works on, and which tiles of queries and keys meet.
struct AttentionSizes {
  int64_t batch, heads, groups, queries, keys, width, value_width;
  Band band;
  const TileLayout* layout = nullptr;  // instead of the band
  float factor() const { return static_cast<float>(1 / std::sqrt(static_cast<double>(width))); }
  int64_t offset() const { return keys - queries; }
  int64_t shared() const { return heads / groups; }

  /// Keys that a query sees, cut to [first, first + count): as [low, high) counted from `first`.
  std::pair<int64_t, int64_t> keys_of(int64_t query, int64_t first, int64_t count) const {
    const int64_t place = query + offset() - first;
    return {std::clamp<int64_t>(place - band.behind, 0, count), std::clamp<int64_t>(place + band.ahead + 1, 0, count)};
  }
  /// Queries that see a key, likewise.
  std::pair<int64_t, int64_t> queries_of(int64_t key, int64_t first, int64_t count) const {
    const int64_t place = key - offset() - first;
    return {std::clamp<int64_t>(place - band.ahead, 0, count), std::clamp<int64_t>(place + band.behind + 1, 0, count)};
  }
  /// Queries that see one of some keys, or more than those.
  std::pair<int64_t, int64_t> span_of(int64_t first_key, int64_t count) const {
    const int64_t low = std::clamp<int64_t>(first_key - offset() - band.ahead, 0, queries);
    const int64_t high = std::clamp<int64_t>(first_key + count - offset() + band.behind, low, queries);
    return {low / tile * tile, std::min(panels_of(high) * tile, queries)};
  }
  /// Meetings of a tile of queries with tiles of keys: [first, last).
  std::pair<int64_t, int64_t> tiles_of(int64_t first_query, int64_t count) const {
    if (layout) {
      const auto* own = layout->first.data() + first_query / tile;
      return {own[0], own[1]};
    }
    const int64_t low = std::clamp<int64_t>(first_query + offset() - band.behind, 0, keys);
    const int64_t high = std::clamp<int64_t>(first_query + count + offset() + band.ahead, 0, keys);
    return {low / tile, high > low ? panels_of(high) : low / tile};
  }
  int64_t key_tile(int64_t meeting) const { return layout ? layout->key_tiles[static_cast<size_t>(meeting)] : meeting; }
};

}  // namespace attnscale
