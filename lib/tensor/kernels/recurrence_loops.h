// The innermost loops of `recurrence_kernel`: a part of vector_loops.cpp, which alone includes it, once for each
// instruction set.

#pragma once

#include "tensor/kernels/vector_functions.h"

namespace attnscale {
namespace {

/// exp(x), NaN where x is not finite, which `exponential` may hide.
inline Vector exp_of(const Vector& x) { return exponential(x) + (x - x); }

template <FeatureMap map>
inline Vector mapped(const Vector& x, const Vector& offset) {
  const Vector zero(0.F), one(1.F);
  if constexpr (map == FeatureMap::elu_plus_one)
    return Vector::blendv(exp_of(at::vec::clamp_max(x, zero)), x + one, x > zero);
  else return at::vec::clamp_min(x, zero) + offset;
}

void map_features(FeatureMap map, float offset, float* x, int64_t count) {
  const Vector shift(offset);
  if (map == FeatureMap::elu_plus_one)
    by_vectors(count, [&](int64_t i, int64_t n) {
      mapped<FeatureMap::elu_plus_one>(Vector::loadu(x + i, n), shift).store(x + i, static_cast<int>(n));
    });
  else if (map == FeatureMap::relu)
    by_vectors(count, [&](int64_t i, int64_t n) {
      mapped<FeatureMap::relu>(Vector::loadu(x + i, n), shift).store(x + i, static_cast<int>(n));
    });
}

void map_features_backward(FeatureMap map, float offset, const float* value, float* gradient, int64_t count) {
  const Vector zero(0.F), one(1.F), shift(offset);
  if (map == FeatureMap::none) return;
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto here = Vector::loadu(value + i, n);
    const auto slope = map == FeatureMap::elu_plus_one ? at::vec::minimum(here, one)  // exp(x) below 1
                                                       : Vector::blendv(zero, one, here > shift);
    (Vector::loadu(gradient + i, n) * slope).store(gradient + i, static_cast<int>(n));
  });
}

void exponentials(float* x, float shift, int64_t count) {
  const Vector by(shift);
  by_vectors(count,
             [&](int64_t i, int64_t n) { exp_of(Vector::loadu(x + i, n) - by).store(x + i, static_cast<int>(n)); });
}

void accumulate(const float* in, double* sum, float* high, float* low, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    sum[i] += in[i];
    high[i] = static_cast<float>(sum[i]);
    low[i] = static_cast<float>(sum[i] - high[i]);
  }
}

void exp_difference(LongSums later, LongSums earlier, float* out, int64_t count) {
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto high = Vector::loadu(later.high + i, n) - Vector::loadu(earlier.high + i, n);
    const auto low = Vector::loadu(later.low + i, n) - Vector::loadu(earlier.low + i, n);
    exp_of(high + low).store(out + i, static_cast<int>(n));
  });
}

void decay_row(float* row, float sign, LongSums sums, LongSums at, int64_t count) {
  const Vector by(sign), high(*at.high), low(*at.low);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto difference = (Vector::loadu(sums.high + i, n) - high) + (Vector::loadu(sums.low + i, n) - low);
    (Vector::loadu(row + i, n) * exp_of(by * difference)).store(row + i, static_cast<int>(n));
  });
}

void decayed_products(const float* query, const float* key, const float* decay, int64_t stride, int64_t columns,
                      int64_t rows, float* room, float* out, int64_t out_stride) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* left = key + i * stride;  // of key i, at place t
    for (int64_t t = i; t < rows; ++t) {
      const float *q = query + t * stride, *a = decay + t * stride;
      Vector sum(0.F);
      by_vectors(columns, [&](int64_t d, int64_t n) {
        auto here = Vector::loadu(left + d, n);
        if (t > i) here = here * Vector::loadu(a + d, n);
        here.store(room + d, static_cast<int>(n));
        sum = at::vec::fmadd(Vector::loadu(q + d, n), here, sum);
      });
      left = room;
      out[t * out_stride + i] = sum_of(sum);
    }
  }
}

void decayed_products_backward(const float* query, const float* key, const float* decay, int64_t stride,
                               int64_t columns, int64_t rows, float* room, const float* gradient,
                               int64_t gradient_stride, float* of_query, float* of_key) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < columns; ++d) room[d] = key[i * stride + d];
    for (int64_t t = i; t < rows; ++t) {
      if (t > i) multiply(decay + t * stride, room, columns);
      add_scaled(room, gradient[t * gradient_stride + i], of_query + t * stride, columns);
    }
    for (int64_t d = 0; d < columns; ++d) room[d] = 0;
    for (int64_t t = rows - 1; t >= i; --t) {
      add_scaled(query + t * stride, gradient[t * gradient_stride + i], room, columns);
      if (t > i) multiply(decay + t * stride, room, columns);
    }
    add(room, of_key + i * stride, columns);
  }
}

}  // namespace
}  // namespace attnscale
