#pragma once

#include "tensor/kernels/norm_rows.h"
#include "tensor/kernels/rounding_loops.h"

// Part of row_loops.cpp: norms of some rows in one call.

namespace attnscale {
namespace {

/// sum = a + b. @return its total
template <class T>
inline float sum_of_two(const float* a, const T* b, float* sum, int64_t count) {
  Vector total(0.F);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto both = loaded(a + i, n) + loaded(b + i, n);
    store(both, sum + i, n);
    total = total + both;  // zeros beyond the row
  });
  return sum_of(total);
}

inline float total_of(const float* row, int64_t count) {
  Vector total(0.F);
  by_vectors(count, [&](int64_t i, int64_t n) { total = total + loaded(row + i, n); });
  return sum_of(total);
}

/// 1 / sqrt(mean((x - mean)^2) + epsilon)
inline float inverse_deviation(const float* row, float mean, float epsilon, int64_t count) {
  Vector squares(0.F);
  const Vector centre(mean);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto off = with_zeros(loaded(row + i, n) - centre, n);
    squares = at::vec::fmadd(off, off, squares);
  });
  return 1 / std::sqrt(sum_of(squares) / static_cast<float>(count) + epsilon);
}

template <class Row>
inline void normalise(const float* row, float mean, float inverse, const float* weight, const float* bias,
                      const Row& out, int64_t count) {
  const Vector centre(mean), scale(inverse);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto unit = (loaded(row + i, n) - centre) * scale;
    const auto gain = loaded(weight + i, n);
    out.put(bias ? at::vec::fmadd(unit, gain, loaded(bias + i, n)) : unit * gain, i, n);
  });
}

template <class Round>
void norm(const NormRows& rows) {
  const int64_t width = rows.width;
  for (int64_t r = 0; r < rows.count; ++r) {
    const int64_t place = r * width;
    const float* row = rows.x + place;
    float total = 0;
    if (rows.sum) {
      float* sum = rows.sum + place;
      total = rows.added ? sum_of_two(row, rows.added + place, sum, width)
                         : sum_of_two(row, rows.added16 + place, sum, width);
      row = sum;
    } else if (rows.centred) {
      total = total_of(row, width);
    }
    const float mean = rows.centred ? total / static_cast<float>(width) : 0.F;
    const float inverse = inverse_deviation(row, mean, rows.epsilon, width);
    rows.moments[2 * r] = mean;
    rows.moments[2 * r + 1] = inverse;
    if (rows.out16) normalise(row, mean, inverse, rows.weight, rows.bias, NarrowRow<Round>{rows.out16 + place}, width);
    else normalise(row, mean, inverse, rows.weight, rows.bias, FloatRow{rows.out + place}, width);
  }
}

template <class Round, class T>
inline void norm_row_backward(const NormGradient& rows, int64_t r, const T* gradient) {
  const int64_t width = rows.width, place = r * width;
  const float *row = rows.x + place, *beside = rows.beside ? rows.beside + place : nullptr;
  float* of_row = rows.of_x + place;
  const Vector centre(rows.moments[2 * r]), scale(rows.moments[2 * r + 1]);
  Vector sum(0.F), along(0.F);  // of the gradient of the unit row, and of that times the unit row
  by_vectors(width, [&](int64_t i, int64_t n) {
    const auto unit = with_zeros((loaded(row + i, n) - centre) * scale, n);
    const auto given = loaded(gradient + i, n), own = given * loaded(rows.weight + i, n);
    sum = sum + own;
    along = at::vec::fmadd(own, unit, along);
    store(at::vec::fmadd(given, unit, loaded(rows.of_weight + i, n)), rows.of_weight + i, n);
    if (rows.of_bias) store(loaded(rows.of_bias + i, n) + given, rows.of_bias + i, n);
  });
  const Vector mean_sum(rows.centred ? sum_of(sum) / static_cast<float>(width) : 0.F);
  const Vector mean_along(sum_of(along) / static_cast<float>(width));
  by_vectors(width, [&](int64_t i, int64_t n) {
    const auto unit = (loaded(row + i, n) - centre) * scale;
    const auto own = loaded(gradient + i, n) * loaded(rows.weight + i, n);
    auto result = (own - mean_sum - unit * mean_along) * scale;
    if (beside) result = result + loaded(beside + i, n);
    store(result, of_row + i, n);
    if (rows.of_x16) NarrowRow<Round>{rows.of_x16 + place}.put(result, i, n);
  });
}

template <class Round>
void norm_backward(const NormGradient& rows) {
  for (int64_t r = 0; r < rows.count; ++r) {
    if (rows.gradient) norm_row_backward<Round>(rows, r, rows.gradient + r * rows.width);
    else norm_row_backward<Round>(rows, r, rows.gradient16 + r * rows.width);
  }
}

}  // namespace
}  // namespace attnscale
