#pragma once

#include <ATen/cpu/vec/vec.h>

#include "tensor/kernels/vector_functions.h"

// For files that are compiled once for each instruction set, and nobody else.

#define ATTNSCALE_JOIN_(a, b) a##b
#define ATTNSCALE_JOIN(a, b) ATTNSCALE_JOIN_(a, b)

namespace attnscale {
namespace {

using Vector = at::vec::Vectorized<float>;
constexpr int64_t width = Vector::size();

/// Calls work(first, count) for whole vectors, then for the rest.
template <class Work>
inline void by_vectors(int64_t count, const Work& work) {
  int64_t i = 0;
  for (; i + width <= count; i += width) work(i, width);
  if (i < count) work(i, count - i);
}

/// Some lanes of a vector, one bit each.
using Lanes = uint32_t;

/// The first n; none below 0, all from `width` on.
inline Lanes lanes_below(int64_t n) {
  const int64_t count = n < 0 ? 0 : n > width ? width : n;
  return (Lanes{1} << count) - 1;
}

/// x in these lanes, `other` elsewhere. No branch: rows under a causal mask each end in another lane.
inline Vector chosen(const Vector& x, Lanes lanes, const Vector& other) {
#ifdef CPU_CAPABILITY_AVX512
  return Vector(_mm512_mask_mov_ps(other, static_cast<__mmask16>(lanes), x));
#else
  const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i bits = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(lanes)), each);
  return Vector(_mm256_blendv_ps(other, x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(bits, each))));
#endif
}

/// Beyond the row, where sums must not notice.
inline Vector with_zeros(const Vector& x, int64_t n) { return chosen(x, lanes_below(n), Vector(0.F)); }

inline void store(const Vector& x, float* out, int64_t n) { x.store(out, static_cast<int>(n)); }

/// Some bfloat16 numbers, widened: half a vector's bytes.
inline Vector widened(const Bits16* in, int64_t n) {
#ifdef CPU_CAPABILITY_AVX512
  const auto narrow = _mm256_maskz_loadu_epi16(static_cast<__mmask16>(lanes_below(n)), in);
  return Vector(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16)));
#else
  float wide[width] = {};
  using Bits32 = uint32_t __attribute__((may_alias));
  auto* numbers = reinterpret_cast<Bits32*>(wide);
  if (n == width)
    for (int64_t i = 0; i < width; ++i) numbers[i] = static_cast<uint32_t>(in[i]) << 16;
  else
    for (int64_t i = 0; i < n; ++i) numbers[i] = static_cast<uint32_t>(in[i]) << 16;
  return Vector::loadu(wide);
#endif
}

inline Vector loaded(const float* in, int64_t n) { return n == width ? Vector::loadu(in) : Vector::loadu(in, n); }
inline Vector loaded(const Bits16* in, int64_t n) { return widened(in, n); }

#ifdef CPU_CAPABILITY_AVX512
/// 2^rest for |rest| <= 1/2, within 2e-7 of it (the polynomial whose largest error is least), times 2^whole; 0 where
/// not kept.
inline Vector scaled_power(const Vector& rest, const __m512& whole, __mmask16 kept) {
  auto sum = at::vec::fmadd(Vector(0.0013264727F), rest, Vector(0.009671513F));
  sum = at::vec::fmadd(sum, rest, Vector(0.055507336F));
  sum = at::vec::fmadd(sum, rest, Vector(0.24022242F));
  sum = at::vec::fmadd(sum, rest, Vector(0.693147F));
  sum = at::vec::fmadd(sum, rest, Vector(1.F));
  return _mm512_maskz_scalef_ps(kept, sum, whole);
}

inline __m512 nearest_whole(const Vector& x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#endif

constexpr float log2_e = 1.44269504088896340736F;

/// 2^x for x below 128; 0 where that is below the least normal number. By half the instructions of `exp_u20`, where the
/// processor has one that multiplies by powers of two.
inline Vector power_of_two(const Vector& x) {
#ifdef CPU_CAPABILITY_AVX512
  const auto whole = nearest_whole(x);
  return scaled_power(x - Vector(whole), whole, _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.F), _CMP_NLT_UQ));
#else
  return (x * Vector(1 / log2_e)).exp_u20();
#endif
}

/// exp(x), within 21 units of the last place; 0 where that is below the least normal number, infinite where it is above
/// the largest.
inline Vector exponential(const Vector& x) {
#ifdef CPU_CAPABILITY_AVX512
  const Vector least(-87.33654F), most(89.F), scale(log2_e), bounded(_mm512_min_ps(most, x));  // NaN stays NaN
  const auto whole = nearest_whole(bounded * scale);
  return scaled_power(at::vec::fmsub(bounded, scale, Vector(whole)), whole, _mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ));
#else
  return Vector(_mm256_blendv_ps(x.exp_u20(), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));  // which loses NaN
#endif
}

/// exp(x) for x below 88, within 7e-6 of it: for what is rounded to bfloat16 next, by two thirds of the instructions.
/// NaN stays NaN.
inline Vector nearly_exponential(const Vector& x) {
#ifdef CPU_CAPABILITY_AVX512
  constexpr int down = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const Vector power = x * Vector(log2_e), rest(_mm512_reduce_ps(power, down));
  auto sum = at::vec::fmadd(Vector(0.01353302F), rest, Vector(0.05201356F));
  sum = at::vec::fmadd(sum, rest, Vector(0.24144165F));
  sum = at::vec::fmadd(sum, rest, Vector(0.69300401F));
  sum = at::vec::fmadd(sum, rest, Vector(1.00000259F));
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(power, _mm512_set1_ps(-126.F), _CMP_NLT_UQ), sum, power);
#else
  return exponential(x);
#endif
}

/// 1 / x for normal numbers x >= 1, infinite ones too: an estimate of 14 bits and a Newton step, within an unit of the
/// last place or two. Some processors divide sixteen numbers in as many cycles.
inline Vector reciprocal(const Vector& x) {
#ifdef CPU_CAPABILITY_AVX512
  const __m512 estimate = _mm512_rcp14_ps(x), error = _mm512_fnmadd_ps(x, estimate, _mm512_set1_ps(1.F));
  // infinity times zero is no number, and no correction either
  return Vector(_mm512_mask_fmadd_ps(estimate, _mm512_cmp_ps_mask(error, error, _CMP_ORD_Q), error, estimate));
#else
  return Vector(1.F) / x;
#endif
}

inline float sum_of(const Vector& vector) {
#ifdef CPU_CAPABILITY_AVX512
  return _mm512_reduce_add_ps(vector);
#else
  float parts[width];
  vector.store(parts);
  for (int64_t half = width / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) parts[i] += parts[i + half];
  return parts[0];
#endif
}

/// The higher of each two; where one is NaN, b.
inline Vector higher(const Vector& a, const Vector& b) {
#ifdef CPU_CAPABILITY_AVX512
  return Vector(_mm512_max_ps(a, b));
#else
  return Vector(_mm256_max_ps(a, b));
#endif
}

/// The highest, where none is NaN.
inline float top_of(const Vector& vector) {
#ifdef CPU_CAPABILITY_AVX512
  return _mm512_reduce_max_ps(vector);
#else
  const __m128 half = _mm_max_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps(vector, 1));
  const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
#endif
}

/// NaN if one of them is.
inline float highest_of(const Vector& vector) {
#ifdef CPU_CAPABILITY_AVX512
  const auto none = _mm512_cmp_ps_mask(vector, vector, _CMP_UNORD_Q);
  return none != 0 ? __builtin_nanf("") : _mm512_reduce_max_ps(vector);
#else
  float parts[width];
  vector.store(parts);
  for (int64_t half = width / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i)
      parts[i] = parts[i] >= parts[i + half] || parts[i] != parts[i] ? parts[i] : parts[i + half];
  return parts[0];
#endif
}

}  // namespace
}  // namespace attnscale
