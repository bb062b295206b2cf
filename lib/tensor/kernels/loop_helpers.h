#pragma once

#include <ATen/cpu/vec/vec.h>

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
  float parts[width];
  vector.store(parts);
  for (int64_t half = width / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i)
      parts[i] = parts[i] >= parts[i + half] || parts[i] != parts[i] ? parts[i] : parts[i + half];
  return parts[0];
}

}  // namespace
}  // namespace attnscale
