#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

// Products of tiles by the processor's matrix instructions (Intel AMX: tiles of 16 x 32 bfloat16 numbers), for sizes
// that tiles of one size fill. LibTorch's `brgemm` makes the same products by the same instructions, in the same order;
// a call of it looks its code up, allocates and configures, which takes as long as a product of 64 x 64 x 64.

namespace attnscale {

/// Whether products of bfloat16 tiles are made so here: by the processor, the system's leave, and oneDNN's variable.
bool multiplies_by_amx();

/// Whether tiles of one size do: whole ones, or, where that is all there is, such of fewer inner numbers or columns, as
/// narrow heads have.
inline bool amx_fits(int64_t rows, int64_t inner, int64_t columns) {
  return rows % 16 == 0 && inner > 0 && columns > 0 && (inner % 32 == 0 || (inner < 32 && inner % 2 == 0)) &&
         (columns % 16 == 0 || columns < 16);
}

/// out (+)= a [rows, inner] panel [inner / 2][64][2], float32. Sizes must fit.
void amx_product(const c10::BFloat16* a, int64_t a_stride, const c10::BFloat16* panel, float* out, int64_t out_stride,
                 int64_t rows, int64_t inner, int64_t columns, bool add);

/// Before others use this thread's tiles.
void release_amx();

}  // namespace attnscale
