#pragma once

#include <utility>

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/types.h>

#include "tensor/kernels/amx_product.h"
#include "tensor/kernels/vector_functions.h"

// The one engine of the kernels: products of tiles, T x T -> float32, by at::native::cpublas::brgemm, which makes code
// for the processor that it finds (AVX2, AVX-512, AMX), or, where they fill AMX's tiles, by amx_product. T is float or
// at::BFloat16.
//
// A left factor lies in rows. A right factor [inner, columns] is cut into panels of 64 columns, which lie one after the
// other: float [inner][64]; bfloat16 [inner / 2][64][2], two rows side by side, as the processor's products take them.
// Odd inner lengths are filled up with a row of zeros.

namespace attnscale {

constexpr int64_t panel_columns = 64;

template <class T>
constexpr int64_t inner_of(int64_t inner) {
  return sizeof(T) == 2 ? inner + inner % 2 : inner;
}

inline int64_t panels_of(int64_t columns) { return (columns + panel_columns - 1) / panel_columns; }

/// Numbers that the panels of a right factor take.
template <class T>
int64_t panel_size(int64_t inner, int64_t columns) {
  return inner_of<T>(inner) * panels_of(columns) * panel_columns;
}

inline const Bits16* bits(const at::BFloat16* x) { return reinterpret_cast<const Bits16*>(x); }
inline Bits16* bits(at::BFloat16* x) { return reinterpret_cast<Bits16*>(x); }

/// Converts a run of numbers.
inline void convert(const float* in, float* out, int64_t count) { std::copy_n(in, count, out); }
inline void convert(const at::BFloat16* in, at::BFloat16* out, int64_t count) { std::copy_n(in, count, out); }
inline void convert(const float* in, at::BFloat16* out, int64_t count) { loops().round(in, bits(out), count); }
inline void convert(const at::BFloat16* in, float* out, int64_t count) { loops().widen(bits(in), out, count); }

/// The same for rows that are so far apart.
inline void convert_rows(const float* in, int64_t in_stride, float* out, int64_t out_stride, int64_t rows,
                         int64_t columns) {
  if (in_stride == columns && out_stride == columns) return convert(in, out, rows * columns);
  for (int64_t i = 0; i < rows; ++i) std::copy_n(in + i * in_stride, columns, out + i * out_stride);
}
inline void convert_rows(const float* in, int64_t in_stride, at::BFloat16* out, int64_t out_stride, int64_t rows,
                         int64_t columns) {
  loops().round_rows(in, in_stride, bits(out), out_stride, rows, columns);
}

/// Panels of a factor that lies in rows of numbers From: in [inner, columns], rows `stride` apart.
template <class From, class T>
void panels_from_rows(const From* in, int64_t stride, int64_t inner, int64_t columns, T* out);

/// Panels of a factor whose transpose lies in rows: in [columns, inner], rows `stride` apart.
template <class From, class T>
void panels_from_columns(const From* in, int64_t stride, int64_t inner, int64_t columns, T* out);

/// out [columns, inner_of(rows)] = in [rows, columns]^T, the last column zero where rows are odd. Any strides.
template <class T>
void transpose_rows(const T* in, int64_t stride, int64_t rows, int64_t columns, T* out, int64_t out_stride);

/// FLOPs of products of tiles on this thread that `tile_flops` does not know of yet.
extern constinit thread_local double new_tile_flops;

/// Whether `brgemm` was called on this thread, whose tiles may have to be given back.
extern constinit thread_local bool brgemm_in_use;

/// Gives them back if so. LibTorch's own operators have given theirs back when they return; to ask for it all the same
/// costs a microsecond, since oneDNN looks up each time what processor this is.
inline void release_brgemm() {
  if (std::exchange(brgemm_in_use, false)) at::native::cpublas::brgemm_release();
}

/// out (+)= a [rows, inner] b [inner, columns], of at most 64 columns.
template <class T>
void tile_product(const T* a, int64_t a_stride, const T* panel, float* out, int64_t out_stride, int64_t rows,
                  int64_t inner, int64_t columns, bool add) {
  new_tile_flops += 2 * static_cast<double>(rows * inner * columns);
  static const bool by_amx = multiplies_by_amx();
  if (by_amx) {
    if constexpr (sizeof(T) == 2)
      if (amx_fits(rows, inner, columns))
        return amx_product(a, a_stride, panel, out, out_stride, rows, inner, columns, add);
    release_amx();
  }
  brgemm_in_use = true;
  at::native::cpublas::brgemm(rows, columns, inner_of<T>(inner), a_stride, panel_columns, out_stride, add, a, panel,
                              out, /*is_vnni=*/sizeof(T) == 2);
}

/// Rows of a tile: its sums, with 64 columns, stay in the nearest cache.
constexpr int64_t row_block = 64;

/// The same for any number of rows and columns, tile by tile, and any inner length, piece by piece: a piece of a panel
/// is read by all rows before the next, and that of a left factor of 256 rows stays in the second cache.
template <class T>
void product(const T* a, int64_t a_stride, const T* panels, float* out, int64_t out_stride, int64_t rows, int64_t inner,
             int64_t columns, bool add = false) {
  constexpr int64_t piece = 2048;
  const int64_t length = inner_of<T>(inner);
  for (int64_t from = 0; from < length; from += piece)
    for (int64_t column = 0; column < columns; column += panel_columns)
      for (int64_t row = 0; row < rows; row += row_block)
        tile_product(a + row * a_stride + from, a_stride, panels + column * length + from * panel_columns,
                     out + row * out_stride + column, out_stride, std::min(row_block, rows - row),
                     std::min(piece, length - from), std::min(panel_columns, columns - column), add || from > 0);
}

/// Memory of one thread for the length of a kernel's inner work; kept for the next. One use at a time for each slot.
float* scratch(int slot, int64_t count);

/// Bytes of that memory, of all threads; and gives back this thread's.
int64_t scratch_bytes();
void release_scratch();

/// What the kernels have multiplied since the program began, masked pairs of a tile and its rows that are none
/// included.
double tile_flops();
void count_tile_flops();

/// Ends the use of tiles on this thread, which AMX wants to know.
class TileUse {
 public:
  TileUse() = default;
  ~TileUse() {
    release_amx();
    release_brgemm();
    count_tile_flops();
  }
  TileUse(const TileUse&) = delete;
  TileUse& operator=(const TileUse&) = delete;
};

/// Calls work(first, count) for blocks of rows, over the threads that there are. The cuts do not depend on them.
template <class Work>
void by_row_blocks(int64_t rows, int64_t block, const Work& work) {
  at::parallel_for(0, (rows + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
    const TileUse use;
    for (int64_t i = begin; i < end; ++i) work(i * block, std::min(block, rows - i * block));
  });
}

/// Rows of a strip: several blocks, so that a panel that is read serves more rows, as many as share them out evenly
/// among the threads.
inline int64_t strip_of(int64_t rows) {
  constexpr int64_t most = 4;
  const int64_t of_thread = std::max<int64_t>(at::divup(at::divup(rows, row_block), at::get_num_threads()), 1);
  return row_block * at::divup(of_thread, at::divup(of_thread, most));
}

}  // namespace attnscale
