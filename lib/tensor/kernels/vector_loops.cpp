// Compiled once for each instruction set, with CPU_CAPABILITY as ATen's own kernels are: no standard library here,
// whose inline functions the linker could take from this file for all others.

#include <cmath>
#include <limits>

#include <ATen/cpu/vec/vec.h>

#include "tensor/kernels/loop_helpers.h"
#include "tensor/kernels/vector_functions.h"

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

void round_rows(const float* in, int64_t in_stride, const float* bias, Bits16* out, int64_t out_stride, int64_t rows,
                int64_t columns) {
  for (int64_t r = 0; r < rows; ++r, in += in_stride, out += out_stride) {
    if (!bias) {
      round(in, out, columns);
      continue;
    }
    for (int64_t c = 0; c < columns; ++c) {
      const float sum = in[c] + bias[c];
      out[c] = static_cast<Bits16>(rounded(__builtin_bit_cast(uint32_t, sum)));
    }
  }
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
  int64_t c = 0;
#ifdef CPU_CAPABILITY_AVX512
  for (; c + 32 <= columns; c += 32) {
    const auto low = _mm512_loadu_si512(even + c), high = _mm512_loadu_si512(odd + c);
    _mm512_storeu_si512(pairs + c, _mm512_permutex2var_epi16(low, of_pairs(0, 32), high));
    _mm512_storeu_si512(pairs + c + 16, _mm512_permutex2var_epi16(low, of_pairs(16, 32), high));
  }
#endif
  for (; c < columns; ++c) pairs[c] = even[c] | static_cast<uint32_t>(odd[c]) << 16;
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
  if (i < count) round(in + i, out + i, count - i);
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

__attribute__((target("avx512bf16"))) void round_rows_natively(const float* in, int64_t in_stride, const float* bias,
                                                               Bits16* out, int64_t out_stride, int64_t rows,
                                                               int64_t columns) {
  const int64_t whole = columns / 32 * 32;
  for (int64_t r = 0; r < rows; ++r, in += in_stride, out += out_stride)
    for (int64_t c = 0; c < whole; c += 32) {
      auto low = _mm512_loadu_ps(in + c), high = _mm512_loadu_ps(in + c + 16);
      if (bias) {
        low = _mm512_add_ps(low, _mm512_loadu_ps(bias + c));
        high = _mm512_add_ps(high, _mm512_loadu_ps(bias + c + 16));
      }
      _mm512_storeu_si512(out + c, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
    }
  if (whole < columns)
    round_rows(in - rows * in_stride + whole, in_stride, bias ? bias + whole : nullptr, out - rows * out_stride + whole,
               out_stride, rows, columns - whole);
}
#endif

void add(const float* in, float* sum, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += in[i];
}

void scale(float* x, float factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] *= factor;
}

void multiply(const float* in, float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] *= in[i];
}

void add_scaled(const float* in, float factor, float* sum, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += factor * in[i];
}

template <class T>
inline float dot_of(const T* a, const T* b, int64_t count) {
  Vector sum(0.F);
  by_vectors(count, [&](int64_t i, int64_t n) { sum = at::vec::fmadd(loaded(a + i, n), loaded(b + i, n), sum); });
  return sum_of(sum);
}
float dot(const float* a, const float* b, int64_t count) { return dot_of(a, b, count); }
float dot16(const Bits16* a, const Bits16* b, int64_t count) { return dot_of(a, b, count); }

float sum(const float* x, int64_t count) {
  Vector total(0.F);
  by_vectors(count, [&](int64_t i, int64_t n) { total = total + Vector::loadu(x + i, n); });
  return sum_of(total);
}

/// erf(x) from exp(-x^2), within 1.5e-7: Abramowitz and Stegun 1964, formula 7.1.26.
inline Vector erf_from(const Vector& x, const Vector& bell) {
  const Vector one(1.F), sign(-0.F);
  const auto size = x.abs();
  const auto t = reciprocal(at::vec::fmadd(Vector(0.3275911F), size, one));
  auto sum = at::vec::fmadd(Vector(1.061405429F), t, Vector(-1.453152027F));
  sum = at::vec::fmadd(sum, t, Vector(1.421413741F));
  sum = at::vec::fmadd(sum, t, Vector(-0.284496736F));
  sum = at::vec::fmadd(sum, t, Vector(0.254829592F));
  return (one - sum * t * bell) | (x & sign);
}

// GELU: x (1 + erf(x / sqrt 2)) / 2; tanh form: x (1 + tanh(c (x + 0.044715 x^3))) / 2, c = sqrt(2 / pi).
constexpr float root_half = 0.70710678118654752440F, density = 0.39894228040143267794F;
constexpr float tanh_scale = 0.79788456080286535588F, cubic = 0.044715F;

inline Vector sigmoid(const Vector& x) { return reciprocal(Vector(1.F) + exponential(Vector(0.F) - x)); }

/// A kind's value at x, and its derivative there.
template <Activation kind>
inline Vector value_at(const Vector& x, Vector& slope) {
  const Vector one(1.F), half(0.5F), zero(0.F), two(2.F);
  if constexpr (kind == Activation::gelu) {
    const auto scaled = x * Vector(root_half);
    const auto bell = power_of_two(scaled * scaled * Vector(-log2_e));
    const auto below = one + erf_from(scaled, bell);
    slope = half * below + x * Vector(density) * bell;
    return x * half * below;
  } else if constexpr (kind == Activation::gelu_tanh) {  // (1 + tanh u) / 2 = sigmoid(2 u)
    const auto gate = sigmoid(Vector(2 * tanh_scale) * x * (one + Vector(cubic) * x * x));
    slope = gate + x * gate * (one - gate) * Vector(2 * tanh_scale) * (one + Vector(3 * cubic) * x * x);
    return x * gate;
  } else if constexpr (kind == Activation::silu) {
    const auto gate = sigmoid(x);
    slope = gate * (one + x * (one - gate));
    return x * gate;
  } else {
    const auto positive = at::vec::clamp_min(x, zero);
    slope = kind == Activation::relu ? Vector::blendv(zero, one, x > zero) : two * positive;
    return kind == Activation::relu ? positive : positive * positive;
  }
}

template <class Work>
inline void with_kind(Activation kind, const Work& work) {
  switch (kind) {
    case Activation::gelu:
      return work.template operator()<Activation::gelu>();
    case Activation::gelu_tanh:
      return work.template operator()<Activation::gelu_tanh>();
    case Activation::silu:
      return work.template operator()<Activation::silu>();
    case Activation::relu:
      return work.template operator()<Activation::relu>();
    case Activation::relu_squared:
      return work.template operator()<Activation::relu_squared>();
  }
}

void activate(Activation kind, const float* in, float* out, int64_t count) {
  with_kind(kind, [&]<Activation known>() {
    by_vectors(count, [&](int64_t i, int64_t n) {
      Vector slope;
      store(value_at<known>(loaded(in + i, n), slope), out + i, n);
    });
  });
}

template <class T>
inline void activated_backward(Activation kind, const T* in, float* gradient, float* value, int64_t count) {
  with_kind(kind, [&]<Activation known>() {
    by_vectors(count, [&](int64_t i, int64_t n) {
      Vector slope;
      store(value_at<known>(loaded(in + i, n), slope), value + i, n);
      store(slope * loaded(gradient + i, n), gradient + i, n);
    });
  });
}

void activate_backward(Activation kind, const float* in, float* gradient, float* value, int64_t count) {
  activated_backward(kind, in, gradient, value, count);
}
void activate_backward16(Activation kind, const Bits16* in, float* gradient, float* value, int64_t count) {
  activated_backward(kind, in, gradient, value, count);
}

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

float largest(const float* x, int64_t count) {
  Vector most(minus_infinity);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto here = Vector::loadu(x + i, n);
    most = at::vec::maximum(most, n == width ? here : Vector::set(Vector(minus_infinity), here, n));
  });
  return highest_of(most);
}

void select(float* x, uint64_t kept, float other, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = (kept >> i & 1) != 0 ? x[i] : other;
}

float softmax_row(float* row, int64_t count, float factor, float* highest, float* total) {
  constexpr float lowest = minus_infinity, not_a_number = std::numeric_limits<float>::quiet_NaN();
  const float found = largest(row, count) * factor, top = found <= *highest ? *highest : found;
  if (top == lowest) {
    for (int64_t i = 0; i < count; ++i) row[i] = 0;
    return 1;
  }
  if (!(top < -lowest)) {  // NaN or infinite: so is the softmax, which `exponential` may hide
    for (int64_t i = 0; i < count; ++i) row[i] = not_a_number;
    *highest = *total = not_a_number;
    return 1;
  }
  Vector sum(0.F);
  const Vector scale_by(factor), shift(top);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto weight = exponential(at::vec::fmsub(Vector::loadu(row + i, n), scale_by, shift));
    weight.store(row + i, static_cast<int>(n));
    sum = sum + (n == width ? weight : Vector::set(Vector(0.F), weight, n));
  });
  const float shrink = *highest == lowest ? 0.F : *highest == top ? 1.F : std::exp(*highest - top);
  *total = *total * shrink + sum_of(sum);
  *highest = top;
  return shrink;
}

void weights_and_slopes(float* row, const float* log_total, const float* mean, float factor, float* gradient,
                        int64_t count) {
  const Vector scale_by(factor);
  by_vectors(count, [&](int64_t i, int64_t n) {
    const auto weight = exponential(at::vec::fmsub(loaded(row + i, n), scale_by, loaded(log_total + i, n)));
    store(weight, row + i, n);
    store(weight * (loaded(gradient + i, n) - loaded(mean + i, n)) * scale_by, gradient + i, n);
  });
}

}  // namespace
}  // namespace attnscale

#include "tensor/kernels/recurrence_loops.h"

namespace attnscale {
namespace {

constexpr VectorFunctions all_functions = {
    .instruction_set = ATTNSCALE_INSTRUCTION_SET,
    .round = round,
    .round_away = round,
    .round_rows = round_rows,
    .widen = widen,
    .widen_rows = widen_rows,
    .transpose = transpose,
    .pair = pair,
    .pair_panel = pair_panel,
    .round_pair_panel = round_pair_panel,
    .add = add,
    .scale = scale,
    .dot = dot,
    .dot16 = dot16,
    .sum = sum,
    .multiply = multiply,
    .add_scaled = add_scaled,
    .largest = largest,
    .activate = activate,
    .activate_backward = activate_backward,
    .activate_backward16 = activate_backward16,
    .select = select,
    .softmax_row = softmax_row,
    .weights_and_slopes = weights_and_slopes,
    .map_features = map_features,
    .map_features_backward = map_features_backward,
    .exponentials = exponentials,
    .accumulate = accumulate,
    .exp_difference = exp_difference,
    .decay_row = decay_row,
    .decayed_products = decayed_products,
    .decayed_products_backward = decayed_products_backward,
};

}  // namespace

extern const VectorFunctions ATTNSCALE_JOIN(vector_functions_, CPU_CAPABILITY);
constexpr VectorFunctions ATTNSCALE_JOIN(vector_functions_, CPU_CAPABILITY) = all_functions;

#ifdef CPU_CAPABILITY_AVX512
extern const VectorFunctions vector_functions_AVX512_BF16;
constexpr VectorFunctions vector_functions_AVX512_BF16 = [] {
  auto functions = all_functions;
  functions.instruction_set = "avx512_bf16";
  functions.round = round_natively;
  functions.round_away = round_away;
  functions.round_rows = round_rows_natively;
  functions.round_pair_panel = round_pair_panel_natively;
  return functions;
}();
#endif

}  // namespace attnscale
