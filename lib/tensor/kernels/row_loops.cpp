// As vector_loops.cpp: compiled once for each instruction set, and no standard library.

#include <cmath>
#include <limits>

#include <ATen/cpu/vec/vec.h>

#include "tensor/kernels/loop_helpers.h"
#include "tensor/kernels/row_functions.h"

namespace attnscale {
namespace {

template <class T>
inline void sum_of_two(const float* a, const T* b, float* out, int64_t count) {
  by_vectors(count, [&](int64_t i, int64_t n) { store(loaded(a + i, n) + loaded(b + i, n), out + i, n); });
}

void plus(const float* a, const float* b, float* out, int64_t count) { sum_of_two(a, b, out, count); }
void plus16(const float* a, const Bits16* b, float* out, int64_t count) { sum_of_two(a, b, out, count); }

void moments(const float* row, int64_t count, float epsilon, bool centred, float* mean, float* inverse) {
  *mean = 0;
  if (centred) {
    Vector sum(0.F);
    by_vectors(count, [&](int64_t i, int64_t n) { sum = sum + loaded(row + i, n); });  // zeros beyond the row
    *mean = sum_of(sum) / static_cast<float>(count);
  }
  Vector squares(0.F);
  const Vector centre(*mean);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto off = with_zeros(loaded(row + i, n) - centre, n);
    squares = at::vec::fmadd(off, off, squares);
  });
  *inverse = 1 / std::sqrt(sum_of(squares) / static_cast<float>(count) + epsilon);
}

void normalise(const float* row, float mean, float inverse, const float* weight, const float* bias, float* out,
               int64_t count) {
  const Vector centre(mean), scale(inverse);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto unit = (loaded(row + i, n) - centre) * scale;
    const auto gain = loaded(weight + i, n);
    store(bias ? at::vec::fmadd(unit, gain, loaded(bias + i, n)) : unit * gain, out + i, n);
  });
}

template <class T>
inline void norm_backward(const NormRow& norm, const T* gradient, const float* beside, float* of_row, float* of_weight,
                          float* of_bias, int64_t count) {
  const Vector centre(norm.mean), scale(norm.inverse);
  Vector sum(0.F), along(0.F);  // of the gradient of the unit row, and of that times the unit row
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto unit = with_zeros((loaded(norm.row + i, n) - centre) * scale, n);
    const auto given = loaded(gradient + i, n), own = given * loaded(norm.weight + i, n);
    sum = sum + own;
    along = at::vec::fmadd(own, unit, along);
    store(at::vec::fmadd(given, unit, loaded(of_weight + i, n)), of_weight + i, n);
    if (of_bias) store(loaded(of_bias + i, n) + given, of_bias + i, n);
  });
  const Vector mean_sum(norm.centred ? sum_of(sum) / static_cast<float>(count) : 0.F);
  const Vector mean_along(sum_of(along) / static_cast<float>(count));
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto unit = (loaded(norm.row + i, n) - centre) * scale;
    const auto own = loaded(gradient + i, n) * loaded(norm.weight + i, n);
    const auto result = (own - mean_sum - unit * mean_along) * scale;
    store(beside ? result + loaded(beside + i, n) : result, of_row + i, n);
  });
}

void normalise_backward(const NormRow& norm, const float* gradient, const float* beside, float* of_row,
                        float* of_weight, float* of_bias, int64_t count) {
  norm_backward(norm, gradient, beside, of_row, of_weight, of_bias, count);
}
void normalise_backward16(const NormRow& norm, const Bits16* gradient, const float* beside, float* of_row,
                          float* of_weight, float* of_bias, int64_t count) {
  norm_backward(norm, gradient, beside, of_row, of_weight, of_bias, count);
}

float log_sum_exp(const float* row, int64_t count, float* sum) {
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  Vector most(lowest), all(0.F);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto here = loaded(row + i, n);
    most = at::vec::maximum(most, n == width ? here : Vector::set(Vector(lowest), here, n));
    all = all + here;
  });
  *sum = sum_of(all);
  const float top = highest_of(most);
  if (!(top - top == 0)) return std::numeric_limits<float>::quiet_NaN();  // `exponential` may hide it
  Vector total(0.F);
  const Vector shift(top);
  by_vectors(count,
             [&](int64_t i, int64_t n) { total = total + with_zeros(exponential(loaded(row + i, n) - shift), n); });
  return top + std::log(sum_of(total));
}

void softmax_gradient(const float* row, float log_total, float factor, float shift, float* out, int64_t count) {
  const Vector total(log_total), scale(factor), less(shift);
  by_vectors(count, [&](int64_t i, int64_t n) {
    store(at::vec::fmsub(exponential(loaded(row + i, n) - total), scale, less), out + i, n);
  });
}

float sum_of_squares(const float* x, int64_t count) {
  Vector sums[4] = {Vector(0.F), Vector(0.F), Vector(0.F), Vector(0.F)};  // four chains hide the latency
  int64_t i = 0;
  for (; i + 4 * width <= count; i += 4 * width)
    for (int64_t j = 0; j < 4; ++j) {
      const auto here = Vector::loadu(x + i + j * width);
      sums[j] = at::vec::fmadd(here, here, sums[j]);
    }
  by_vectors(count - i, [&](int64_t k, int64_t n) {
    const auto here = loaded(x + i + k, n);
    sums[0] = at::vec::fmadd(here, here, sums[0]);
  });
  return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

void adam(const AdamStep& step, const float* gradient, float* weight, float* first, float* second, int64_t count) {
  const Vector factor(step.gradient_factor), kept(step.kept), new1(step.new1), beta2(step.beta2), new2(step.new2),
      size(step.size), root(step.root), epsilon(step.epsilon);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto g = loaded(gradient + i, n) * factor;
    const auto m0 = loaded(first + i, n);
    const auto m = at::vec::fmadd(g - m0, new1, m0);
    const auto v = at::vec::fmadd(g * g, new2, loaded(second + i, n) * beta2);
    store(m, first + i, n);
    store(v, second + i, n);
    store(loaded(weight + i, n) * kept - size * m / (v.sqrt() / root + epsilon), weight + i, n);
  });
}

/// Four rows at a time share what is loaded and stored of the sum.
template <class T>
inline void rows_added(const T* matrix, int64_t stride, int64_t rows, float* sum, int64_t columns) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const T* row = matrix + r * stride;
    by_vectors(columns, [&](int64_t i, int64_t n) {
      const auto first = loaded(row + i, n) + loaded(row + stride + i, n);
      const auto second = loaded(row + 2 * stride + i, n) + loaded(row + 3 * stride + i, n);
      store(loaded(sum + i, n) + (first + second), sum + i, n);
    });
  }
  for (; r < rows; ++r)
    by_vectors(columns, [&](int64_t i, int64_t n) {
      store(loaded(sum + i, n) + loaded(matrix + r * stride + i, n), sum + i, n);
    });
}

void sum_rows(const float* matrix, int64_t stride, int64_t rows, float* sum, int64_t columns) {
  rows_added(matrix, stride, rows, sum, columns);
}
void sum_rows16(const Bits16* matrix, int64_t stride, int64_t rows, float* sum, int64_t columns) {
  rows_added(matrix, stride, rows, sum, columns);
}

/// N rows share what is loaded of x, and stream from memory side by side.
template <int64_t N, class T>
inline void products_of(const T* row, int64_t stride, const float* x, float* out, int64_t columns) {
  Vector sums[N];
  for (auto& sum : sums) sum = Vector(0.F);
  by_vectors(columns, [&](int64_t i, int64_t n) {
    const auto here = loaded(x + i, n);
    for (int64_t j = 0; j < N; ++j) sums[j] = at::vec::fmadd(loaded(row + j * stride + i, n), here, sums[j]);
  });
  for (int64_t j = 0; j < N; ++j) out[j] = sum_of(sums[j]);
}

template <class T>
inline void products(const T* matrix, int64_t stride, int64_t rows, const float* x, float* out, int64_t columns) {
  // With 4 float32 rows a core waits for memory a fifth longer; 16-bit rows are widened, and with 8 take longer.
  constexpr int64_t together = sizeof(T) == 2 ? 4 : 8;
  int64_t r = 0;
  for (; r + together <= rows; r += together) products_of<together>(matrix + r * stride, stride, x, out + r, columns);
  for (; r < rows; ++r) products_of<1>(matrix + r * stride, stride, x, out + r, columns);
}

void dots(const float* matrix, int64_t stride, int64_t rows, const float* x, float* out, int64_t columns) {
  products(matrix, stride, rows, x, out, columns);
}
void dots16(const Bits16* matrix, int64_t stride, int64_t rows, const float* x, float* out, int64_t columns) {
  products(matrix, stride, rows, x, out, columns);
}

/// N vectors of the sum stay in registers while all rows are read.
template <int64_t N, class T>
inline void sum_part(const T* matrix, int64_t stride, int64_t rows, const float* weights, float* out, int64_t last) {
  Vector sums[N];
  for (auto& sum : sums) sum = Vector(0.F);
  for (int64_t r = 0; r < rows; ++r) {
    const Vector weight(weights[r]);
    for (int64_t j = 0; j < N; ++j)
      sums[j] = at::vec::fmadd(loaded(matrix + r * stride + j * width, j + 1 == N ? last : width), weight, sums[j]);
  }
  for (int64_t j = 0; j < N; ++j) store(sums[j], out + j * width, j + 1 == N ? last : width);
}

template <class T>
inline void sum_of_rows(const T* matrix, int64_t stride, int64_t rows, const float* weights, float* out,
                        int64_t columns) {
  constexpr int64_t together = 4;
  int64_t c = 0;
  for (; c + together * width <= columns; c += together * width)
    sum_part<together>(matrix + c, stride, rows, weights, out + c, width);
  for (; c < columns; c += width)
    sum_part<1>(matrix + c, stride, rows, weights, out + c, columns - c < width ? columns - c : width);
}

void weighted_sum(const float* matrix, int64_t stride, int64_t rows, const float* weights, float* out,
                  int64_t columns) {
  sum_of_rows(matrix, stride, rows, weights, out, columns);
}
void weighted_sum16(const Bits16* matrix, int64_t stride, int64_t rows, const float* weights, float* out,
                    int64_t columns) {
  sum_of_rows(matrix, stride, rows, weights, out, columns);
}

}  // namespace

extern const RowFunctions ATTNSCALE_JOIN(row_functions_, CPU_CAPABILITY);
const RowFunctions ATTNSCALE_JOIN(row_functions_, CPU_CAPABILITY) = {
    .plus = plus,
    .plus16 = plus16,
    .moments = moments,
    .normalise = normalise,
    .normalise_backward = normalise_backward,
    .normalise_backward16 = normalise_backward16,
    .log_sum_exp = log_sum_exp,
    .softmax_gradient = softmax_gradient,
    .sum_of_squares = sum_of_squares,
    .adam = adam,
    .sum_rows = sum_rows,
    .sum_rows16 = sum_rows16,
    .dots = dots,
    .dots16 = dots16,
    .weighted_sum = weighted_sum,
    .weighted_sum16 = weighted_sum16,
};

}  // namespace attnscale
