#pragma once

#include "tensor/kernels/rounding_loops.h"
#include "tensor/kernels/row_functions.h"

// Part of row_loops.cpp: dropout.

namespace attnscale {
namespace {

#ifdef CPU_CAPABILITY_AVX512
using Words = __m512i;
inline Words words_of(uint32_t number) { return _mm512_set1_epi32(static_cast<int>(number)); }
inline Words first_words() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
inline Words sum(const Words& a, const Words& b) { return _mm512_add_epi32(a, b); }
/// The high and the low word of each product: of those at even places, and of those at odd ones.
inline void multiply(const Words& x, const Words& by, Words& high, Words& low) {
  const Words even = _mm512_mul_epu32(x, by), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), by);
  high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
  low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}
/// factor where a word is less than the threshold, otherwise 0
inline Vector factors_below(const Words& words, uint32_t threshold, float factor) {
  return Vector(_mm512_maskz_mov_ps(_mm512_cmplt_epu32_mask(words, words_of(threshold)), _mm512_set1_ps(factor)));
}
#else
using Words = __m256i;
inline Words words_of(uint32_t number) { return _mm256_set1_epi32(static_cast<int>(number)); }
inline Words first_words() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
inline Words sum(const Words& a, const Words& b) { return _mm256_add_epi32(a, b); }
inline void multiply(const Words& x, const Words& by, Words& high, Words& low) {
  const Words even = _mm256_mul_epu32(x, by), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), by);
  high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}
inline Vector factors_below(const Words& words, uint32_t threshold, float factor) {
  const Words sign = words_of(0x80000000U);  // comparisons are of signed numbers here
  const Words below = _mm256_cmpgt_epi32(words_of(threshold) ^ sign, words ^ sign);
  return Vector(_mm256_and_ps(_mm256_castsi256_ps(below), _mm256_set1_ps(factor)));
}
#endif

/// Factors of 64 numbers.
inline void factors_of(const Drops& drops, uint64_t block, float* factors) {
  constexpr uint64_t lanes = 16;
  for (uint64_t lane = 0; lane < lanes; lane += width) {
    const uint64_t counter = block * lanes + lane;  // of which no low word overflows within a block
    Words words[4] = {sum(words_of(static_cast<uint32_t>(counter)), first_words()),
                      words_of(static_cast<uint32_t>(counter >> 32)), words_of(0), words_of(0)};
    Words first_key = words_of(static_cast<uint32_t>(drops.key)),
          second_key = words_of(static_cast<uint32_t>(drops.key >> 32));
    for (int round = 0; round < 10; ++round) {
      Words high, low, other_high, other_low;
      multiply(words[0], words_of(0xD2511F53U), high, low);
      multiply(words[2], words_of(0xCD9E8D57U), other_high, other_low);
      words[0] = other_high ^ words[1] ^ first_key;
      words[1] = other_low;
      words[2] = high ^ words[3] ^ second_key;
      words[3] = low;
      first_key = sum(first_key, words_of(0x9E3779B9U));
      second_key = sum(second_key, words_of(0xBB67AE85U));
    }
    for (uint64_t word = 0; word < 4; ++word)
      factors_below(words[word], drops.threshold, drops.factor).store(factors + word * lanes + lane);
  }
}

template <class Row, class T>
inline void numbers_dropped(const Drops& drops, uint64_t first, const T* in, T* out, int64_t count) {
  constexpr int64_t block = 64;
  for (int64_t from = 0; from < count; from += block) {
    alignas(64) float factors[block];
    factors_of(drops, (first + static_cast<uint64_t>(from)) / block, factors);
    const Row row{out + from};
    by_vectors(count - from < block ? count - from : block,
               [&](int64_t i, int64_t n) { row.put(loaded(in + from + i, n) * loaded(factors + i, n), i, n); });
  }
}

void drop(const Drops& drops, uint64_t first, const float* in, float* out, int64_t count) {
  numbers_dropped<FloatRow>(drops, first, in, out, count);
}
template <class Round>
void drop16(const Drops& drops, uint64_t first, const Bits16* in, Bits16* out, int64_t count) {
  numbers_dropped<NarrowRow<Round>>(drops, first, in, out, count);
}

}  // namespace
}  // namespace attnscale
