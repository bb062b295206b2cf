// As vector_loops.cpp: compiled once for each instruction set, and no standard library.

#include <cmath>
#include <limits>

#include <ATen/cpu/vec/vec.h>

#include "tensor/kernels/drop_loops.h"
#include "tensor/kernels/loop_helpers.h"
#include "tensor/kernels/norm_loops.h"
#include "tensor/kernels/row_functions.h"

namespace attnscale {
namespace {

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
    for (int64_t j = 0; j < N; ++j) {
      sums[j] = at::vec::fmadd(loaded(row + j * stride + i, n), here, sums[j]);
      __builtin_prefetch(row + (j + 2 * N) * stride + i);  // of rows to come, past the last one at worst
    }
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

/// @param Row  of what is put out, made from where it begins
template <class Row, class T>
inline void heads_turned(const T* in, int64_t stride, int64_t heads, const float* cosine, const float* sine,
                         int64_t half, T* out, int64_t out_stride) {
  for (int64_t head = 0; head < heads; ++head, in += stride, out += out_stride) {
    const Row first_row{out}, second_row{out + half};
    by_vectors(half, [&](int64_t i, int64_t n) {
      const auto first = loaded(in + i, n), second = loaded(in + half + i, n);
      const auto c = loaded(cosine + i, n), s = loaded(sine + i, n);
      first_row.put(at::vec::fmsub(first, c, second * s), i, n);
      second_row.put(at::vec::fmadd(second, c, first * s), i, n);
    });
  }
}

void turn(const float* in, int64_t stride, int64_t heads, const float* cosine, const float* sine, int64_t half,
          float* out, int64_t out_stride) {
  heads_turned<FloatRow>(in, stride, heads, cosine, sine, half, out, out_stride);
}
template <class Round>
void turn16(const Bits16* in, int64_t stride, int64_t heads, const float* cosine, const float* sine, int64_t half,
            Bits16* out, int64_t out_stride) {
  heads_turned<NarrowRow<Round>>(in, stride, heads, cosine, sine, half, out, out_stride);
}

}  // namespace

namespace {

constexpr RowFunctions all_functions = {
    .norm = norm<RoundByBits>,
    .norm_backward = norm_backward<RoundByBits>,
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
    .turn = turn,
    .turn16 = turn16<RoundByBits>,
    .drop = drop,
    .drop16 = drop16<RoundByBits>,
};

}  // namespace

extern const RowFunctions ATTNSCALE_JOIN(row_functions_, CPU_CAPABILITY);
constexpr RowFunctions ATTNSCALE_JOIN(row_functions_, CPU_CAPABILITY) = all_functions;

#ifdef CPU_CAPABILITY_AVX512
extern const RowFunctions row_functions_AVX512_BF16;
constexpr RowFunctions row_functions_AVX512_BF16 = [] {
  auto functions = all_functions;
  functions.norm = norm<RoundNatively>;
  functions.norm_backward = norm_backward<RoundNatively>;
  functions.turn16 = turn16<RoundNatively>;
  functions.drop16 = drop16<RoundNatively>;
  return functions;
}();
#endif

}  // namespace attnscale
