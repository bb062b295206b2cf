#pragma once

#include "tensor/kernels/loop_helpers.h"

// How loops put numbers out, as they are or rounded to bfloat16.

namespace attnscale {
namespace {

// Conversions work on the bits, without a branch, so that the compiler makes vectors of them.
using Bits32 = uint32_t __attribute__((may_alias));

inline uint32_t rounded(uint32_t number) {
  const uint32_t nearest = (number + 0x7fffU + ((number >> 16) & 1U)) >> 16;
  return (number & 0x7fffffffU) > 0x7f800000U ? 0x7fc0U : nearest;  // NaN stays NaN
}

void round(const float* in, Bits16* __restrict out, int64_t count) {
  const auto* numbers = reinterpret_cast<const Bits32*>(in);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<Bits16>(rounded(numbers[i]));
}

/// Rounds a vector, or n numbers of it.
struct RoundByBits {
  static void put(const Vector& x, Bits16* out, int64_t n) {
    alignas(64) float numbers[width];
    x.store(numbers);
    round(numbers, out, n);
  }
  /// (even[i], odd[i]) one after the other.
  static void put_pairs(const Vector& even, const Vector& odd, Bits16* out, int64_t n) {
    alignas(64) float first[width], second[width];
    even.store(first);
    odd.store(second);
    const auto *low = reinterpret_cast<const Bits32*>(first), *high = reinterpret_cast<const Bits32*>(second);
    auto* pairs = reinterpret_cast<Bits32*>(out);
    for (int64_t i = 0; i < n; ++i) pairs[i] = rounded(low[i]) | rounded(high[i]) << 16;
  }
};

#ifdef CPU_CAPABILITY_AVX512
/// By instruction, where the processor has it; what float32 holds below its normal numbers becomes zero.
struct RoundNatively {
  static void put(const Vector& x, Bits16* out, int64_t n) {
    __m256i narrow;  // by name: the functions around this are compiled for processors without it, too
    asm("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"(static_cast<__m512>(x)));
    _mm256_mask_storeu_epi16(out, static_cast<__mmask16>(lanes_below(n)), narrow);
  }
  static void put_pairs(const Vector& even, const Vector& odd, Bits16* out, int64_t n) {
    __m256i low, high;
    asm("vcvtneps2bf16 %1, %0" : "=v"(low) : "v"(static_cast<__m512>(even)));
    asm("vcvtneps2bf16 %1, %0" : "=v"(high) : "v"(static_cast<__m512>(odd)));
    const auto pairs = _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
    _mm512_mask_storeu_epi32(out, static_cast<__mmask16>(lanes_below(n)), pairs);
  }
};

#endif

/// Where a row of results goes: floats, or bfloat16 rounded by Round.
struct FloatRow {
  float* row;
  void put(const Vector& x, int64_t i) const { x.store(row + i); }
  void put(const Vector& x, int64_t i, int64_t n) const { store(x, row + i, n); }
};
template <class Round>
struct NarrowRow {
  Bits16* row;
  void put(const Vector& x, int64_t i) const { Round::put(x, row + i, width); }
  void put(const Vector& x, int64_t i, int64_t n) const { Round::put(x, row + i, n); }
};

}  // namespace
}  // namespace attnscale
