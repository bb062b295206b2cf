#pragma once

#include <array>
#include <limits>
#include <tuple>

#include "tensor/kernels/attention_sizes.h"
#include "tensor/kernels/head_rows.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/softmax_tile.h"

// Part of attention_kernel.cpp: what its forward and its backward pass share.

namespace attnscale {
namespace {

// What a pass works on while it stays in the second cache: so many tiles of queries go along the keys side by side, and
// keys meet a stretch of queries before the next.
constexpr int64_t abreast = 8, stretch = 8 * tile;

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Which scratch is whose; 0 is the tile engine's.
enum Slot {
  logits = 1,
  gradients,
  weights,
  slopes,
  right_slopes,
  turned,
  sums,
  highest,
  totals,
  head_memory,
  group_memory,
  reaches
};

/// Of a tensor of T, which is not asked: LibTorch would be for each head, and take as long as a small tile's product.
template <class T>
Rows<const T> rows_of_head(const Tensor& x, int64_t b, int64_t h) {
  return {static_cast<const T*>(x.const_data_ptr()) + b * x.stride(0) + h * x.stride(1), x.stride(2)};
}
template <class T>
Rows<T> rows_to_fill(Tensor& x, int64_t b, int64_t h) {
  return {static_cast<T*>(x.mutable_data_ptr()) + b * x.stride(0) + h * x.stride(1), x.stride(2)};
}

/// out (+)= left [rows, inner] times the rows from `first` on of a right factor [length, columns].
template <class T>
void product_of_rows(const T* left, int64_t stride, const T* panels, int64_t length, int64_t first, int64_t inner,
                     float* out, int64_t rows, int64_t columns, bool add) {
  for (int64_t column = 0; column < columns; column += panel_columns)
    tile_product(left, stride, panels + column * inner_of<T>(length) + first * panel_columns, out + column, columns,
                 rows, inner, std::min(panel_columns, columns - column), add);
}

/// out [rows, columns], `row_stride` apart, = left [rows, inner] times the columns from `first` on of a right factor.
template <class T>
void product_of_columns(Rows<const T> left, int64_t row, const T* panels, int64_t inner, int64_t first, float* out,
                        int64_t rows, int64_t columns) {
  for (int64_t column = 0; column < columns; column += tile)
    tile_product(left.at(row), left.stride, panels + (first + column) * inner_of<T>(inner), out + column, row_stride,
                 rows, inner, std::min(tile, columns - column), false);
}

void row_dots(Rows<const float> a, Rows<const float> b, int64_t rows, int64_t columns, float* out) {
  loops().row_dots(a.data, a.stride, b.data, b.stride, rows, columns, out);
}
void row_dots(Rows<const at::BFloat16> a, Rows<const at::BFloat16> b, int64_t rows, int64_t columns, float* out) {
  loops().row_dots16(bits(a.data), a.stride, bits(b.data), b.stride, rows, columns, out);
}

/// Memory for `count` numbers of T in a slot.
template <class T>
T* scratch_of(Slot slot, int64_t count) {
  return reinterpret_cast<T*>(scratch(slot, (count * static_cast<int64_t>(sizeof(T)) + 3) / 4));
}

/// Rows of floats, `row_stride` apart, as a left factor: themselves, or where they are rounded to.
template <class T>
T* left_of(float* rows, Slot slot) {
  if constexpr (sizeof(T) == 4) return rows;
  else return scratch_of<T>(slot, tile * row_stride);
}

/// Where loops round floats to: nowhere, or there.
Bits16* narrow_of(float*) { return nullptr; }
Bits16* narrow_of(at::BFloat16* place) { return bits(place); }

/// What each row of a tile sees, at most `tile` rows.
class TileView {
 public:
  /// @param of_row  [low, high) of row i
  template <class OfRow>
  TileView(int64_t rows, int64_t columns, const OfRow& of_row)
      : rows_{rows, row_stride, columns, low_.data(), high_.data()} {
    for (int64_t i = 0; i < rows; ++i)
      std::tie(low_[static_cast<size_t>(i)], high_[static_cast<size_t>(i)]) = of_row(i);
  }
  /// @param kept  bits of each row
  TileView(int64_t rows, int64_t columns, int64_t count, const uint64_t* kept)
      : TileView(rows, columns, [&](int64_t i) { return std::pair<int64_t, int64_t>(0, kept[i] != 0 ? count : 0); }) {
    rows_.kept = kept;
  }
  TileView(const TileView&) = delete;
  TileView& operator=(const TileView&) = delete;
  const TileRows& rows() const { return rows_; }

 private:
  std::array<int64_t, tile> low_, high_;
  TileRows rows_;
};

}  // namespace
}  // namespace attnscale
