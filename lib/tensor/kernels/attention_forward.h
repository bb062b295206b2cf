#pragma once

#include <algorithm>

#include "tensor/kernels/attention_parts.h"

// Part of attention_kernel.cpp: the softmax of one group of heads, tile by tile of queries.

namespace attnscale {
namespace {

/// A tile of queries on its way along the keys.
struct QueryTile {
  int64_t first, count;
  int64_t begin, end;         ///< its meetings with tiles of keys
  uint64_t bounded;           ///< queries, one bit each, of which no logit is far from 0, which stands for the largest
  float *sum, *most, *total;  ///< of weighted values [count, E]; of each query, its largest logit and its weights' sum
};

/// Of each key, the largest square of its length and those of all before. With that of a query it bounds the logits
/// that the query sees, so that nobody has to find the largest; keys ahead of it change nothing. Null where queries do
/// not see all keys behind them, where it does not pay, and for float32, which would feel how inexact exponentials far
/// from 0 are.
template <class T>
const float* reaches_of(const AttentionSizes& sizes, Rows<const T> key) {
  constexpr int64_t few = 8 * tile;
  if (sizeof(T) == 4 || sizes.layout || sizes.keys <= few || sizes.band.behind < sizes.keys - 1) return nullptr;
  float* reach = scratch(reaches, sizes.keys);
  row_dots(key, key, sizes.keys, sizes.width, reach);
  float longest = 0;
  for (int64_t s = 0; s < sizes.keys; ++s)
    reach[s] = longest = std::max(longest, reach[s] < infinity ? reach[s] : infinity);
  return reach;
}

/// Queries of a tile, one bit each, whose exponentials and their sums stay inside float32's range as they are.
template <class T>
uint64_t bounded_queries(const AttentionSizes& sizes, Rows<const T> query, int64_t first, int64_t count,
                         const float* reach) {
  if (!reach) return 0;
  constexpr float largest = 20;  // of logits: values up to 1e25 stay finite times the sum of 10,000 such exponentials
  const float most = (largest / sizes.factor()) * (largest / sizes.factor());
  std::array<float, tile> squares;
  const Rows<const T> own{query.at(first), query.stride};
  row_dots(own, own, count, sizes.width, squares.data());
  uint64_t bounded = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t seen = sizes.keys_of(first + i, 0, sizes.keys).second;
    const bool here = seen > 0 && squares[static_cast<size_t>(i)] * reach[seen - 1] <= most;  // NaN is not
    bounded |= static_cast<uint64_t>(here) << i;
  }
  return bounded;
}

/// Takes up the keys of some meetings, from `meeting` on, `together` of them if there are so many.
template <class T>
void meet(const AttentionSizes& sizes, const QueryTile& of, Rows<const T> query, const T* key_panels,
          const T* value_panels, int64_t meeting, int64_t together) {
  const int64_t d = sizes.width, e = sizes.value_width, count = of.count;
  float* logit = scratch(logits, tile * row_stride);
  std::array<float, tile> shrink;
  T* left = left_of<T>(logit, weights);
  const int64_t first_key = sizes.key_tile(meeting) * tile,
                keys = std::min(std::min(together, of.end - meeting) * tile, sizes.keys - first_key),
                inner = inner_of<T>(keys);
  product_of_columns(query, of.first, key_panels, d, first_key, logit, count, keys);
  const auto join = [&](const TileView& view) {
    auto rows = view.rows();
    rows.bounded = of.bounded;
    loops().softmax_tile(rows, logit, narrow_of(left), sizes.factor(), of.most, of.total, shrink.data());
  };
  if (sizes.layout) join({count, inner, keys, sizes.layout->by_query.data() + meeting * tile});
  else join({count, inner, [&](int64_t i) { return sizes.keys_of(of.first + i, first_key, keys); }});
  if (meeting > of.begin)
    for (int64_t i = 0; i < count; ++i)
      if (shrink[static_cast<size_t>(i)] != 1) loops().scale(of.sum + i * e, shrink[static_cast<size_t>(i)], e);
  product_of_rows(left, row_stride, value_panels, sizes.keys, first_key, keys, of.sum, count, e, meeting > of.begin);
}

template <class T>
void put_out(const AttentionSizes& sizes, const QueryTile& of, Rows<T> out, float* log_totals) {
  const int64_t e = sizes.value_width;
  if (of.begin == of.end) std::fill_n(of.sum, of.count * e, 0.F);
  loops().softmax_end(of.sum, narrow_of(out.at(of.first)), out.stride, of.total, of.count, e);
  if constexpr (sizeof(T) == 4) convert_rows(of.sum, e, out.at(of.first), out.stride, of.count, e);
  loops().log_totals(of.most, of.total, log_totals + of.first, of.count);
}

/// One head. Some tiles of queries go along the keys side by side, so that all but the first find them near.
/// @param reach  what `reaches_of` gave
template <class T>
void forward_head(const AttentionSizes& sizes, Rows<const T> query, const T* key_panels, const T* value_panels,
                  const float* reach, Rows<T> out, float* log_totals) {
  const int64_t together = sizes.layout ? 1 : span / tile, e = sizes.value_width;
  float *sum = scratch(sums, abreast * tile * e), *most = scratch(highest, abreast * tile),
        *total = scratch(totals, abreast * tile);
  for (int64_t group = 0; group < sizes.queries; group += abreast * tile) {
    std::array<QueryTile, abreast> tiles;
    int64_t there = 0, steps = 0;
    for (int64_t first = group; first < sizes.queries && there < abreast; first += tile, ++there) {
      const int64_t count = std::min(tile, sizes.queries - first);
      const auto [begin, end] = sizes.tiles_of(first, count);
      const uint64_t bounded = bounded_queries(sizes, query, first, count, reach);
      tiles[static_cast<size_t>(there)] = {
          first, count, begin, end, bounded, sum + there * tile * e, most + there * tile, total + there * tile};
      for (int64_t i = 0; i < count; ++i) most[there * tile + i] = (bounded >> i & 1) != 0 ? 0.F : -infinity;
      std::fill_n(total + there * tile, count, 0.F);
      steps = std::max(steps, end - begin);
    }
    const auto each = [&](const auto& work) { std::for_each_n(tiles.begin(), there, work); };
    for (int64_t step = 0; step < steps; step += together)
      each([&](const QueryTile& of) {
        if (of.begin + step < of.end) meet(sizes, of, query, key_panels, value_panels, of.begin + step, together);
      });
    each([&](const QueryTile& of) { put_out(sizes, of, out, log_totals); });
  }
}

template <class T>
void forward_group(const AttentionSizes& sizes, const Tensor& query, const Tensor& key, const Tensor& value, int64_t b,
                   int64_t g, Tensor& out, Tensor& log_totals) {
  const int64_t d = sizes.width, e = sizes.value_width;
  T* key_panels = scratch_of<T>(head_memory, panel_size<T>(d, sizes.keys));
  T* value_panels = scratch_of<T>(group_memory, panel_size<T>(sizes.keys, e));
  const auto keys = rows_of_head<T>(key, b, g), values = rows_of_head<T>(value, b, g);
  panels_from_columns(keys.data, keys.stride, d, sizes.keys, key_panels);
  panels_from_rows(values.data, values.stride, sizes.keys, e, value_panels);
  const float* reach = reaches_of(sizes, keys);
  for (int64_t h = g * sizes.shared(); h < (g + 1) * sizes.shared(); ++h)
    forward_head(sizes, rows_of_head<T>(query, b, h), key_panels, value_panels, reach, rows_to_fill<T>(out, b, h),
                 log_totals.mutable_data_ptr<float>() + (b * sizes.heads + h) * sizes.queries);
}

}  // namespace
}  // namespace attnscale
