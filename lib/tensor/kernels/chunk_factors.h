#pragma once

#include "tensor/kernels/tiles.h"

// Factors of products, made from rows of float32 numbers that lie `stride` apart: a multiple of 64, so that float32
// rows of at most 64 columns are panels as they are. T is float or at::BFloat16; `room` holds what must be made.

namespace attnscale {

constexpr int64_t tile_side = panel_columns;

inline int64_t padded_width(int64_t width) { return panels_of(width) * panel_columns; }

/// Rows as a left factor, `stride` apart too.
template <class T>
const T* left_factor(const float* rows, int64_t count, int64_t stride, T* room) {
  if constexpr (sizeof(T) == 4) return rows;
  convert(rows, room, count * stride);
  return room;
}

/// The transpose of rows as a left factor of `columns` rows, 64 apart.
/// @param wide  [columns, 64], which is filled
template <class T>
const T* turned_left_factor(const float* rows, int64_t count, int64_t stride, int64_t columns, float* wide, T* room) {
  loops().transpose(rows, stride, wide, tile_side, count, columns);
  return left_factor<T>(wide, columns, tile_side, room);
}

/// Rows as a right factor: [inner, columns].
template <class T>
const T* right_factor(const float* rows, int64_t stride, int64_t inner, int64_t columns, T* room) {
  if constexpr (sizeof(T) == 4)
    if (stride == tile_side && columns <= tile_side) return rows;
  panels_from_rows(rows, stride, inner, columns, room);
  return room;
}

/// The transpose of rows [columns, inner] as a right factor.
template <class T>
const T* turned_right_factor(const float* rows, int64_t stride, int64_t inner, int64_t columns, T* room) {
  panels_from_columns(rows, stride, inner, columns, room);
  return room;
}

}  // namespace attnscale
