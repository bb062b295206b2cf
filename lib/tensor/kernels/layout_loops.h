#pragma once

#include "tensor/kernels/loop_helpers.h"
#include "tensor/kernels/rounding_loops.h"
#include "tensor/kernels/vector_functions.h"

// Part of vector_loops.cpp: how numbers are rounded and widened, rows turned, and laid out as the pairs that bfloat16
// products take.

namespace attnscale {
namespace {

void widen(const Bits16* in, float* __restrict out, int64_t count) {
  auto* numbers = reinterpret_cast<Bits32*>(out);
  for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<uint32_t>(in[i]) << 16;
}

void widen_rows(const Bits16* in, int64_t in_stride, float* out, int64_t out_stride, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r, in += in_stride, out += out_stride) {
    by_vectors(columns, [&](int64_t i, int64_t n) { store(loaded(in + i, n), out + i, n); });
    for (int64_t c = columns; c < out_stride; ++c) out[c] = 0;
  }
}

void round_rows(const float* in, int64_t in_stride, Bits16* out, int64_t out_stride, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) round(in + r * in_stride, out + r * out_stride, columns);
}

#ifdef CPU_CAPABILITY_AVX512
/// 16 x 16 numbers that never leave the registers (those of at::vec::transpose_mxn go through memory): rows are loaded
/// by halves, row i and row i + 8 side by side, whose squares of 8 x 8 are turned by pairs, fours and eights.
inline void transpose_square(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  const auto first = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
  const auto second = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    __m512 rows[8], pairs[8];
    __m512d fours[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i)
      rows[i] = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(in + i * in_stride + 8 * half)),
                                   _mm256_loadu_ps(in + (i + 8) * in_stride + 8 * half), 1);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
      pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        const auto low = _mm512_castps_pd(pairs[i + j]), high = _mm512_castps_pd(pairs[i + j + 2]);
        fours[i + 2 * j] = _mm512_unpacklo_pd(low, high);
        fours[i + 2 * j + 1] = _mm512_unpackhi_pd(low, high);
      }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      float* to = out + (8 * half + j) * out_stride;
      _mm512_storeu_ps(to, _mm512_castpd_ps(_mm512_permutex2var_pd(fours[j], first, fours[j + 4])));
      _mm512_storeu_ps(to + 4 * out_stride, _mm512_castpd_ps(_mm512_permutex2var_pd(fours[j], second, fours[j + 4])));
    }
  }
}
#else
inline void transpose_square(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  at::vec::transpose_mxn<float, static_cast<int>(width), static_cast<int>(width)>(in, in_stride, out, out_stride);
}
#endif

void transpose(const float* in, int64_t in_stride, float* out, int64_t out_stride, int64_t rows, int64_t columns) {
  constexpr int side = static_cast<int>(width);
  int64_t r = 0;
  for (; r + side <= rows; r += side) {
    int64_t c = 0;
    for (; c + side <= columns; c += side)
      transpose_square(in + r * in_stride + c, in_stride, out + c * out_stride + r, out_stride);
    for (; c < columns; ++c)
      for (int64_t i = r; i < r + side; ++i) out[c * out_stride + i] = in[i * in_stride + c];
  }
  for (; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) out[c * out_stride + r] = in[r * in_stride + c];
}

#ifdef CPU_CAPABILITY_AVX512
/// Which 16-bit numbers make sixteen pairs: their first ones stand in a row from `first` on, their second ones `apart`
/// from those.
inline __m512i of_pairs(int16_t first, int16_t apart) {
  alignas(64) int16_t places[32];
  for (int16_t i = 0; i < 16; ++i) {
    places[2 * i] = static_cast<int16_t>(first + i);
    places[2 * i + 1] = static_cast<int16_t>(first + i + apart);
  }
  return _mm512_load_si512(places);
}
#endif

void pair(const Bits16* even, const Bits16* odd, Bits16* out, int64_t columns) {
  auto* __restrict pairs = reinterpret_cast<Bits32*>(out);
  if (!odd) {
    for (int64_t c = 0; c < columns; ++c) pairs[c] = even[c];
    return;
  }
#ifdef CPU_CAPABILITY_AVX512
  int64_t c = 0;
  for (; c + 32 <= columns; c += 32) {
    const auto low = _mm512_loadu_si512(even + c), high = _mm512_loadu_si512(odd + c);
    _mm512_storeu_si512(pairs + c, _mm512_permutex2var_epi16(low, of_pairs(0, 32), high));
    _mm512_storeu_si512(pairs + c + 16, _mm512_permutex2var_epi16(low, of_pairs(16, 32), high));
  }
  for (; c < columns; c += 16) {
    const auto there = static_cast<__mmask16>(lanes_below(columns - c));
    const auto low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, even + c)),
               high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, odd + c));
    _mm512_mask_storeu_epi32(pairs + c, there, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
#else
  for (int64_t c = 0; c < columns; ++c) pairs[c] = even[c] | static_cast<uint32_t>(odd[c]) << 16;
#endif
}

void round_pair(const float* even, const float* odd, Bits16* out, int64_t columns) {
  auto* __restrict pairs = reinterpret_cast<Bits32*>(out);
  const auto *first = reinterpret_cast<const Bits32*>(even), *second = reinterpret_cast<const Bits32*>(odd);
  if (odd)
    for (int64_t c = 0; c < columns; ++c) pairs[c] = rounded(first[c]) | rounded(second[c]) << 16;
  else
    for (int64_t c = 0; c < columns; ++c) pairs[c] = rounded(first[c]);
}

constexpr int64_t panel = 64;  // columns

template <class T, auto pair_of>
inline void panel_of(const T* in, int64_t stride, int64_t rows, int64_t columns, Bits16* out) {
  for (int64_t r = 0; r < rows; r += 2, in += 2 * stride, out += 2 * panel) {
    pair_of(in, r + 1 < rows ? in + stride : nullptr, out, columns);
    for (int64_t c = 2 * columns; c < 2 * panel; ++c) out[c] = 0;
  }
}
void pair_panel(const Bits16* in, int64_t stride, int64_t rows, int64_t columns, Bits16* out) {
  panel_of<Bits16, pair>(in, stride, rows, columns, out);
}
void round_pair_panel(const float* in, int64_t stride, int64_t rows, int64_t columns, Bits16* out) {
  panel_of<float, round_pair>(in, stride, rows, columns, out);
}

#ifdef CPU_CAPABILITY_AVX512
// The same by instruction, where the processor has it; what float32 holds below its normal numbers becomes zero.
__attribute__((target("avx512bf16"))) void round_natively(const float* in, Bits16* out, int64_t count) {
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const auto both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(in + i + 16), _mm512_loadu_ps(in + i));
    _mm512_storeu_si512(out + i, reinterpret_cast<__m512i>(both));
  }
  for (; i < count; i += width)
    RoundNatively::put(loaded(in + i, count - i < width ? count - i : width), out + i, count - i);
}

/// The lines of memory that it fills are not read before they are written, where it fills whole ones.
__attribute__((target("avx512bf16"))) void round_away(const float* in, Bits16* out, int64_t count) {
  if (reinterpret_cast<uintptr_t>(out) % 64 != 0 || count % 32 != 0) return round_natively(in, out, count);
  for (int64_t i = 0; i < count; i += 32) {
    const auto both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(in + i + 16), _mm512_loadu_ps(in + i));
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out + i), reinterpret_cast<__m512i>(both));
  }
  _mm_sfence();  // other threads see them in order
}

__attribute__((target("avx512bf16"))) void round_pair_natively(const float* even, const float* odd, Bits16* out,
                                                               int64_t columns) {
  if (!odd) return round_pair(even, odd, out, columns);
  const auto halves = of_pairs(0, 16);
  int64_t c = 0;
  for (; c + 16 <= columns; c += 16) {
    const auto both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(odd + c), _mm512_loadu_ps(even + c));  // even ones first
    _mm512_storeu_si512(out + 2 * c, _mm512_permutexvar_epi16(halves, reinterpret_cast<__m512i>(both)));
  }
  if (c < columns) round_pair(even + c, odd + c, out + 2 * c, columns - c);
}

__attribute__((target("avx512bf16"))) void round_pair_panel_natively(const float* in, int64_t stride, int64_t rows,
                                                                     int64_t columns, Bits16* out) {
  panel_of<float, round_pair_natively>(in, stride, rows, columns, out);
}

__attribute__((target("avx512bf16"))) void round_rows_natively(const float* in, int64_t in_stride, Bits16* out,
                                                               int64_t out_stride, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) round_natively(in + r * in_stride, out + r * out_stride, columns);
}
#endif

}  // namespace
}  // namespace attnscale
