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

/// Beyond the row, where sums must not notice.
inline Vector with_zeros(const Vector& x, int64_t n) { return n == width ? x : Vector::set(Vector(0.F), x, n); }

inline void store(const Vector& x, float* out, int64_t n) { x.store(out, static_cast<int>(n)); }

/// Some bfloat16 numbers, widened: half a vector's bytes.
inline Vector widened(const Bits16* in, int64_t n) {
  float wide[width] = {};
  using Bits32 = uint32_t __attribute__((may_alias));
  auto* numbers = reinterpret_cast<Bits32*>(wide);
  if (n == width)
    for (int64_t i = 0; i < width; ++i) numbers[i] = static_cast<uint32_t>(in[i]) << 16;
  else
    for (int64_t i = 0; i < n; ++i) numbers[i] = static_cast<uint32_t>(in[i]) << 16;
  return Vector::loadu(wide);
}

inline Vector loaded(const float* in, int64_t n) { return n == width ? Vector::loadu(in) : Vector::loadu(in, n); }
inline Vector loaded(const Bits16* in, int64_t n) { return widened(in, n); }

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
