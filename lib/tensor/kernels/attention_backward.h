#pragma once

#include <algorithm>
#include <vector>

#include "tensor/kernels/attention_parts.h"

// Part of attention_kernel.cpp: the gradients of one group of heads, tile by tile of keys.

namespace attnscale {
namespace {

constexpr int64_t spare = 64 * 16;  ///< bytes that an arena's pieces are rounded up by, at most

/// Rows of what is turned, of D that there are: whole tiles where AMX multiplies, also for narrow heads.
template <class T>
int64_t turned_width(int64_t width) {
  return sizeof(T) == 2 && multiplies_by_amx() ? at::divup(width, int64_t{16}) * 16 : width;
}

/// What the backward pass of one head works with: queries and the output's gradient as right factors both ways.
template <class T>
struct Head {
  Rows<const T> query, gradient;
  const float* log_totals;
  T *query_columns, *gradient_columns;  // [D, T], [E, T]
  T *query_rows, *gradient_rows;        // [T, D], [T, E]
  float* means;                         // of the weights' gradients: [T]
};

/// And of a group: keys and values as they lie, keys turned, and the gradients of both.
template <class T>
struct Group {
  Rows<const T> key, value;
  Rows<T> turned_key;        // [turned_width(D), S], zeros below D
  float *of_key, *of_value;  // [S, D], [S, E]
};

/// Of a stretch of queries, turned, as the products give it: [turned_width(D), of the stretch], `stride` apart.
struct QueryGradient {
  float* data;
  int64_t stride;
  int64_t from;  ///< the stretch's first query
  float* at(int64_t query) const { return data + query - from; }
};

template <class T>
Head<T> head_of(const AttentionSizes& sizes, const Tensor& query, const Tensor& gradient, const Tensor& out,
                const Tensor& log_totals, int64_t b, int64_t h) {
  const int64_t d = sizes.width, e = sizes.value_width, queries = sizes.queries;
  const std::array<int64_t, 4> of = {panel_size<T>(d, queries), panel_size<T>(e, queries), panel_size<T>(queries, d),
                                     panel_size<T>(queries, e)};
  Arena memory(scratch_of<char>(
      head_memory, (of[0] + of[1] + of[2] + of[3]) * static_cast<int64_t>(sizeof(T)) + 4 * queries + spare));
  Head<T> head{rows_of_head<T>(query, b, h),
               rows_of_head<T>(gradient, b, h),
               log_totals.const_data_ptr<float>() + (b * sizes.heads + h) * queries,
               memory.take<T>(of[0]),
               memory.take<T>(of[1]),
               memory.take<T>(of[2]),
               memory.take<T>(of[3]),
               memory.take<float>(queries)};
  panels_from_columns(head.query.data, head.query.stride, d, queries, head.query_columns);
  panels_from_columns(head.gradient.data, head.gradient.stride, e, queries, head.gradient_columns);
  panels_from_rows(head.query.data, head.query.stride, queries, d, head.query_rows);
  panels_from_rows(head.gradient.data, head.gradient.stride, queries, e, head.gradient_rows);
  row_dots(rows_of_head<T>(out, b, h), head.gradient, queries, e, head.means);
  return head;
}

/// Adds the share of a span of queries, from `first` on, and a tile of keys, to all three gradients. Works on the
/// transposed logits, so that the products with queries and the output's gradient take their left factor as it is, and
/// that with keys, which gives the transposed gradient of queries, its right one without turning it.
template <class T>
void backward_span(const AttentionSizes& sizes, const Head<T>& head, const Group<T>& group,
                   const QueryGradient& of_query, int64_t first, int64_t queries, int64_t first_key, int64_t meeting) {
  const int64_t d = sizes.width, e = sizes.value_width, keys = std::min(tile, sizes.keys - first_key),
                inner = inner_of<T>(queries);
  float *weight = scratch(logits, tile * row_stride), *slope = scratch(gradients, tile * row_stride);
  T *left = left_of<T>(weight, weights), *left_slope = left_of<T>(slope, slopes);
  product_of_columns(group.key, first_key, head.query_columns, d, first, weight, keys, queries);
  product_of_columns(group.value, first_key, head.gradient_columns, e, first, slope, keys, queries);
  const SoftmaxGradient of{head.log_totals + first, head.means + first, queries,
                           sizes.factor(),          narrow_of(left),    narrow_of(left_slope)};
  const auto go_back = [&](const TileView& view) { loops().slopes_tile(view.rows(), of, weight, slope); };
  if (sizes.layout) go_back({keys, inner, queries, sizes.layout->by_key.data() + meeting * tile});
  else go_back({keys, inner, [&](int64_t s) { return sizes.queries_of(first_key + s, first, queries); }});
  product_of_rows(left, row_stride, head.gradient_rows, sizes.queries, first, queries, group.of_value + first_key * e,
                  keys, e, true);
  product_of_rows(left_slope, row_stride, head.query_rows, sizes.queries, first, queries, group.of_key + first_key * d,
                  keys, d, true);
  T* right_slope = scratch_of<T>(right_slopes, panel_size<T>(tile, span));
  panels_from_rows(left_slope, row_stride, keys, queries, right_slope);
  for (int64_t column = 0; column < queries; column += panel_columns)
    tile_product(group.turned_key.data + first_key, group.turned_key.stride, right_slope + column * inner_of<T>(keys),
                 of_query.at(first + column), of_query.stride, turned_width<T>(d), keys,
                 std::min(panel_columns, queries - column), true);
}

template <class T>
void put_rows(const float* in, Rows<T> out, int64_t rows, int64_t width) {
  convert_rows(in, width, out.data, out.stride, rows, width);
}

/// Turns a stretch's gradient back, and puts it where it belongs.
template <class T>
void put_turned(const QueryGradient& of, Rows<T> out, int64_t queries, int64_t width) {
  float* straight = scratch(logits, tile * width);
  for (int64_t first = 0; first < queries; first += tile) {
    const int64_t count = std::min(tile, queries - first);
    loops().transpose(of.data + first, of.stride, straight, width, width, count);
    put_rows(straight, Rows<T>{out.at(of.from + first), out.stride}, count, width);
  }
}

/// All that meet: a stretch of queries and all keys, then the next.
/// @param of_query  their gradient, filled
template <class T>
void backward_head(const AttentionSizes& sizes, const Head<T>& head, const Group<T>& group, Rows<T> of_query) {
  const int64_t stride = panels_of(std::min(stretch, sizes.queries)) * tile + 16,  // as `row_stride`
      numbers = turned_width<T>(sizes.width) * stride;
  float* memory = scratch(turned, numbers);
  for (int64_t from = 0; from < sizes.queries; from += stretch) {
    const int64_t last = std::min(from + stretch, sizes.queries);
    const QueryGradient of{memory, stride, from};
    std::fill_n(memory, numbers, 0.F);
    if (sizes.layout) {
      for (int64_t first = from; first < last; first += tile) {
        const int64_t count = std::min(tile, last - first);
        const auto [begin, end] = sizes.tiles_of(first, count);
        for (int64_t meeting = begin; meeting < end; ++meeting)
          backward_span(sizes, head, group, of, first, count, sizes.key_tile(meeting) * tile, meeting);
      }
    } else {
      for (int64_t key = 0; key < sizes.keys; key += tile) {
        const auto [low, high] = sizes.span_of(key, std::min(tile, sizes.keys - key));
        const int64_t begin = std::max(low, from), end = std::min(high, last);
        for (int64_t first = begin; first < end; first += span)
          backward_span(sizes, head, group, of, first, std::min(span, end - first), key, 0);
      }
    }
    put_turned(of, of_query, last - from, sizes.width);
  }
}

/// @param saved  query, key, value, output, log_totals @param wanted  gradients of the first three, to be filled
template <class T>
void backward_group(const AttentionSizes& sizes, const std::vector<Tensor>& saved, const Tensor& gradient, int64_t b,
                    int64_t g, std::vector<Tensor>& wanted) {
  constexpr int64_t line = 64 / sizeof(T);
  const int64_t d = sizes.width, e = sizes.value_width, stride = panels_of(sizes.keys) * tile + line,
                turned_size = turned_width<T>(d) * stride;
  Arena memory(
      scratch_of<char>(group_memory, turned_size * static_cast<int64_t>(sizeof(T)) + 4 * sizes.keys * (d + e) + spare));
  const Group<T> group{rows_of_head<T>(saved[1], b, g),
                       rows_of_head<T>(saved[2], b, g),
                       {memory.take<T>(turned_size), stride},
                       memory.take<float>(sizes.keys * d),
                       memory.take<float>(sizes.keys * e)};
  transpose_rows(group.key.data, group.key.stride, sizes.keys, d, group.turned_key.data, stride);
  std::fill(group.turned_key.at(d), group.turned_key.at(turned_width<T>(d)), T(0));
  std::fill_n(group.of_key, sizes.keys * d, 0.F);
  std::fill_n(group.of_value, sizes.keys * e, 0.F);
  for (int64_t h = g * sizes.shared(); h < (g + 1) * sizes.shared(); ++h) {
    const auto head = head_of<T>(sizes, saved[0], gradient, saved[3], saved[4], b, h);
    backward_head(sizes, head, group, rows_to_fill<T>(wanted[0], b, h));
  }
  put_rows(group.of_key, rows_to_fill<T>(wanted[1], b, g), sizes.keys, d);
  put_rows(group.of_value, rows_to_fill<T>(wanted[2], b, g), sizes.keys, e);
}

}  // namespace
}  // namespace attnscale
