#pragma once

#include "tensor/empty.h"
#include "tensor/kernels/row_functions.h"
#include "tensor/kernels/tiles.h"

// Products of whole matrices from tiles. T is float or at::BFloat16, of which all pointers agree.

namespace attnscale {

using torch::Tensor;

template <class T>
constexpr at::ScalarType type_of = c10::CppTypeToScalarType<T>::value;

/// Numbers as float32, in their place or widened in scratch.
inline const float* read_floats(const float* place, int, int64_t) { return place; }
inline const float* read_floats(const at::BFloat16* place, int slot, int64_t count) {
  float* wide = scratch(slot, count);
  convert(place, wide, count);
  return wide;
}

/// Row i of a matrix of either dtype as float32; one use of a slot at a time.
inline const float* row_of(const Tensor& matrix, int64_t i, int64_t width, int slot) {
  if (matrix.scalar_type() == at::kFloat) return matrix.const_data_ptr<float>() + i * width;
  return read_floats(matrix.const_data_ptr<at::BFloat16>() + i * width, slot, width);
}

/// Of a tensor whose last dimension lies in rows.
inline int64_t rows_in(const Tensor& x) { return x.size(-1) > 0 ? x.numel() / x.size(-1) : 0; }

/// x as rows of T that are as long as products take them: itself if it is. @return [.., inner_of(K)], contiguous
template <class T>
Tensor rows_of(const Tensor& x) {
  const int64_t columns = x.size(-1), inner = inner_of<T>(columns);
  if (x.scalar_type() == type_of<T> && x.is_contiguous() && inner == columns) return x;
  const Tensor rows = x.reshape({-1, columns}).to(type_of<T>).contiguous();
  if (inner == columns) return rows;
  Tensor longer = empty_on_cpu({rows.size(0), inner}, type_of<T>);
  const T* in = rows.const_data_ptr<T>();
  T* out = longer.mutable_data_ptr<T>();
  for (int64_t i = 0; i < rows.size(0); ++i, in += columns, out += inner)
    std::fill(std::copy_n(in, columns, out), out + inner, T(0));
  return longer;
}

/// Panels of W^T. @param weight  float32 [N, K]
template <class T>
Tensor panels_of_transpose(const Tensor& weight) {
  const Tensor in = weight.contiguous();
  Tensor panels = empty_on_cpu({panel_size<T>(in.size(1), in.size(0))}, type_of<T>);
  panels_from_columns(in.const_data_ptr<float>(), in.size(1), in.size(1), in.size(0), panels.mutable_data_ptr<T>());
  return panels;
}

/// Panels of W itself, or of rows of T.
template <class T, class From>
Tensor panels_of_rows(const Tensor& matrix, int64_t columns) {
  const int64_t inner = rows_in(matrix);
  Tensor panels = empty_on_cpu({panel_size<T>(inner, columns)}, type_of<T>);
  panels_from_rows(matrix.const_data_ptr<From>(), matrix.size(-1), inner, columns, panels.mutable_data_ptr<T>());
  return panels;
}

/// Rows as a left factor of sums over them: [columns, inner], the columns' rows `stride` apart.
template <class T>
struct TurnedRows {
  Tensor memory;
  int64_t columns, inner, stride;
  const T* row(int64_t i) const { return memory.const_data_ptr<T>() + i * stride; }
};

/// @param a  [.., >= columns], rows of T. A line of the cache more between rows than they take: rows that are a power
/// of two apart would all compete for the same few places of the nearest cache.
template <class T>
TurnedRows<T> turned_rows(const Tensor& a, int64_t columns) {
  constexpr int64_t line = 64 / sizeof(T);
  const int64_t inner = inner_of<T>(rows_in(a)), stride = inner % (16 * line) == 0 ? inner + line : inner;
  TurnedRows<T> turned{empty_on_cpu({columns, stride}, type_of<T>), columns, inner, stride};
  transpose_rows(a.const_data_ptr<T>(), a.size(-1), rows_in(a), columns, turned.memory.template mutable_data_ptr<T>(),
                 stride);
  return turned;
}

/// A sum over rows in float32. @param turned  of [M, N] @param panels  of [M, K] @param out  [N, K]
template <class T>
void sum_over_rows(const TurnedRows<T>& turned, const T* panels, int64_t columns, float* out) {
  by_row_blocks(turned.columns, strip_of(turned.columns), [&](int64_t first, int64_t count) {
    product(turned.row(first), turned.stride, panels, out + first * columns, columns, count, turned.inner, columns);
  });
}

/// The same, its transpose put out. @param out  [K, N]
template <class T>
void transposed_sum_over_rows(const TurnedRows<T>& turned, const T* panels, int64_t columns, float* out) {
  const int64_t inner = turned.inner, rows = turned.columns, strip = strip_of(rows);
  by_row_blocks(rows, strip, [&](int64_t first, int64_t count) {
    float* tile = scratch(1, strip * panel_columns);
    for (int64_t column = 0; column < columns; column += panel_columns) {
      const int64_t width = std::min(panel_columns, columns - column);
      product(turned.row(first), turned.stride, panels + column * inner, tile, panel_columns, count, inner, width);
      loops().transpose(tile, panel_columns, out + column * rows + first, rows, count, width);
    }
  });
}

/// a^T b, summed in float32: the gradient of a weight. The narrower of the two is turned, which costs more than laying
/// out panels does. @param a  [.., >= N] @param b  [.., >= K], M rows of T each @return [N, K]
template <class T>
Tensor transposed_product(const Tensor& a, int64_t outputs, const Tensor& b, int64_t inputs) {
  Tensor out = empty_on_cpu({outputs, inputs}, at::kFloat);
  auto* to = out.mutable_data_ptr<float>();
  if (outputs <= inputs)
    sum_over_rows<T>(turned_rows<T>(a, outputs), panels_of_rows<T, T>(b, inputs).template const_data_ptr<T>(), inputs,
                     to);
  else
    transposed_sum_over_rows<T>(turned_rows<T>(b, inputs),
                                panels_of_rows<T, T>(a, outputs).template const_data_ptr<T>(), outputs, to);
  return out;
}

/// Adds rows to a sum in float32.
inline void add_rows(const float* rows, int64_t stride, int64_t count, float* sum, int64_t columns) {
  row_functions()->sum_rows(rows, stride, count, sum, columns);
}
inline void add_rows(const at::BFloat16* rows, int64_t stride, int64_t count, float* sum, int64_t columns) {
  row_functions()->sum_rows16(bits(rows), stride, count, sum, columns);
}

/// Sums over rows in float32: the gradient of a bias. @param a  [.., >= N], rows of T
template <class T>
Tensor row_sums(const Tensor& a, int64_t columns) {
  Tensor out = zeros_on_cpu({columns}, at::kFloat);
  add_rows(a.const_data_ptr<T>(), a.size(-1), rows_in(a), out.mutable_data_ptr<float>(), columns);
  return out;
}

/// rows [count, inner] times panels, a bias added if it is not null -> out [count, columns], `columns` apart. What is
/// rounded is rounded some rows at a time, while their sums are near.
template <class T, class Out>
void product_into(const T* rows, int64_t stride, int64_t count, int64_t inner, const T* panels, const float* bias,
                  Out* out, int64_t columns) {
  const auto product_of = [&](int64_t row, int64_t many, float* sums) {
    if (bias)
      for (int64_t i = 0; i < many; ++i) std::copy_n(bias, columns, sums + i * columns);
    product(rows + row * stride, stride, panels, sums, columns, many, inner, columns, bias != nullptr);
  };
  if constexpr (sizeof(Out) == 4) {
    product_of(0, count, out);
  } else {
    float* tile = scratch(1, row_block * columns);
    for (int64_t row = 0; row < count; row += row_block) {
      const int64_t many = std::min(row_block, count - row);
      product_of(row, many, tile);
      convert(tile, out + row * columns, many * columns);
    }
  }
}

/// rows [.., K] times panels, and a bias [N] if it is defined -> out [.., N], of dtype Out.
template <class T, class Out>
void matrix_product(const Tensor& rows, int64_t inner, const Tensor& panels, const Tensor& bias, Tensor& out) {
  const int64_t columns = out.size(-1), stride = rows.size(-1), strip = strip_of(rows_in(rows));
  const float* shift = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  by_row_blocks(rows_in(rows), strip, [&](int64_t first, int64_t count) {
    product_into(rows.const_data_ptr<T>() + first * stride, stride, count, inner, panels.const_data_ptr<T>(), shift,
                 out.mutable_data_ptr<Out>() + first * columns, columns);
  });
}

}  // namespace attnscale
