#include "tensor/kernels/amx_product.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string>

#include <ATen/cpu/Utils.h>

#include "tensor/kernels/tiles.h"

#ifdef ATTNSCALE_X86
#include <immintrin.h>
#endif

namespace attnscale {

#ifdef ATTNSCALE_X86
namespace {

/// Whether the most that oneDNN may use is no less than AMX; what it does not know, it passes over.
bool may_be_amx(std::string isa) {
  for (auto& c : isa) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return isa.find("amx") != std::string::npos || !(isa.starts_with("avx") || isa.starts_with("sse"));
}

/// Sizes of tiles: sums are tiles 0 to 3, left factors 4 and 5, right ones 6 and 7, but in `short_product`.
struct TileSizes {
  int64_t inner = 0, columns = 0;  ///< at most 32 and 16; 0: tiles are not in use
  bool operator==(const TileSizes&) const = default;
};

/// What `ldtilecfg` reads.
struct alignas(64) Configuration {
  explicit Configuration(const TileSizes& sizes) {
    const auto bytes_of_pairs = static_cast<uint16_t>(4 * sizes.columns), left = static_cast<uint16_t>(2 * sizes.inner);
    for (int tile = 0; tile < 8; ++tile) {
      row_bytes[tile] = tile == 4 || tile == 5 ? left : bytes_of_pairs;
      rows[tile] = tile < 6 ? 16 : static_cast<uint8_t>(sizes.inner / 2);
    }
  }
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

thread_local TileSizes configured;

__attribute__((target("amx-tile"))) void configure(const TileSizes& sizes) {
  if (configured == sizes) return;
  if (configured == TileSizes{}) release_brgemm();  // which would not know that its tiles are gone
  static const Configuration whole({32, 16});
  if (sizes == TileSizes{32, 16}) {
    _tile_loadconfig(&whole);
  } else {
    const Configuration narrow(sizes);
    asm volatile("" ::"r"(&narrow) : "memory");  // the instruction does not tell the compiler all that it reads
    _tile_loadconfig(&narrow);
  }
  configured = sizes;
}

constexpr int64_t panel_bytes = 256, step_bytes = 16 * panel_bytes;  // of a row of pairs, and of sixteen of them

/// One or two tiles of rows by one or two of columns.
template <int row_tiles, int column_tiles>
__attribute__((target("amx-tile,amx-bf16"))) void block_product(const char* a, int64_t a_bytes, const char* panel,
                                                                char* out, int64_t out_bytes, int64_t steps, bool add) {
  if (add) {
    _tile_loadd(0, out, out_bytes);
    if constexpr (column_tiles == 2) _tile_loadd(1, out + 64, out_bytes);
    if constexpr (row_tiles == 2) _tile_loadd(2, out + 16 * out_bytes, out_bytes);
    if constexpr (row_tiles == 2 && column_tiles == 2) _tile_loadd(3, out + 16 * out_bytes + 64, out_bytes);
  } else {
    _tile_zero(0);
    if constexpr (column_tiles == 2) _tile_zero(1);
    if constexpr (row_tiles == 2) _tile_zero(2);
    if constexpr (row_tiles == 2 && column_tiles == 2) _tile_zero(3);
  }
  for (int64_t step = 0; step < steps; ++step, a += 64, panel += step_bytes) {
    _tile_loadd(6, panel, panel_bytes);
    _tile_loadd(4, a, a_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (column_tiles == 2) {
      _tile_loadd(7, panel + 64, panel_bytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (row_tiles == 2) {
      _tile_loadd(5, a + 16 * a_bytes, a_bytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (column_tiles == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, out, out_bytes);
  if constexpr (column_tiles == 2) _tile_stored(1, out + 64, out_bytes);
  if constexpr (row_tiles == 2) _tile_stored(2, out + 16 * out_bytes, out_bytes);
  if constexpr (row_tiles == 2 && column_tiles == 2) _tile_stored(3, out + 16 * out_bytes + 64, out_bytes);
}

/// All rows by two tiles of columns, of 64 inner numbers: the four tiles of the right factor stay where they are.
__attribute__((target("amx-tile,amx-bf16"))) void short_product(const char* a, int64_t a_bytes, const char* panel,
                                                                char* out, int64_t out_bytes, int64_t rows, bool add) {
  _tile_loadd(4, panel, panel_bytes);
  _tile_loadd(5, panel + 64, panel_bytes);
  _tile_loadd(6, panel + step_bytes, panel_bytes);
  _tile_loadd(7, panel + step_bytes + 64, panel_bytes);
  for (int64_t row = 0; row < rows; row += 16, a += 16 * a_bytes, out += 16 * out_bytes) {
    if (add) {
      _tile_loadd(0, out, out_bytes);
      _tile_loadd(1, out + 64, out_bytes);
    } else {
      _tile_zero(0);
      _tile_zero(1);
    }
    _tile_loadd(2, a, a_bytes);
    _tile_dpbf16ps(0, 2, 4);
    _tile_dpbf16ps(1, 2, 5);
    _tile_loadd(3, a + 64, a_bytes);
    _tile_dpbf16ps(0, 3, 6);
    _tile_dpbf16ps(1, 3, 7);
    _tile_stored(0, out, out_bytes);
    _tile_stored(1, out + 64, out_bytes);
  }
}

}  // namespace

bool multiplies_by_amx() {
  static const bool does = [] {
    if (__builtin_cpu_supports("amx-tile") == 0 || __builtin_cpu_supports("amx-bf16") == 0 || !at::cpu::init_amx())
      return false;
    for (const auto* name : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"})
      if (const char* most = std::getenv(name)) return may_be_amx(most);
    return true;
  }();
  return does;
}

__attribute__((target("amx-tile,amx-bf16"))) void amx_product(const c10::BFloat16* a, int64_t a_stride,
                                                              const c10::BFloat16* panel, float* out,
                                                              int64_t out_stride, int64_t rows, int64_t inner,
                                                              int64_t columns, bool add) {
  configure({std::min<int64_t>(inner, 32), std::min<int64_t>(columns, 16)});
  asm volatile("" ::: "memory");  // loads of tiles do not tell the compiler what they read
  const int64_t a_bytes = 2 * a_stride, out_bytes = 4 * out_stride, steps = (inner + 31) / 32;
  for (int64_t column = 0; column < columns; column += 32) {
    if (inner == 64 && columns - column > 16) {
      short_product(reinterpret_cast<const char*>(a), a_bytes, reinterpret_cast<const char*>(panel + 2 * column),
                    reinterpret_cast<char*>(out + column), out_bytes, rows, add);
      continue;
    }
    for (int64_t row = 0; row < rows; row += 32) {
      const char *left = reinterpret_cast<const char*>(a + row * a_stride),
                 *right = reinterpret_cast<const char*>(panel + 2 * column);
      char* place = reinterpret_cast<char*>(out + row * out_stride + column);
      const bool two_rows = rows - row > 16, two_columns = columns - column > 16;
      const auto of_size = two_rows ? (two_columns ? block_product<2, 2> : block_product<2, 1>)
                                    : (two_columns ? block_product<1, 2> : block_product<1, 1>);
      of_size(left, a_bytes, right, place, out_bytes, steps, add);
    }
  }
}

__attribute__((target("amx-tile"))) void release_amx() {
  if (configured != TileSizes{}) _tile_release();
  configured = {};
}

#else

bool multiplies_by_amx() { return false; }
void amx_product(const c10::BFloat16*, int64_t, const c10::BFloat16*, float*, int64_t, int64_t, int64_t, int64_t,
                 bool) {}
void release_amx() {}

#endif

}  // namespace attnscale
