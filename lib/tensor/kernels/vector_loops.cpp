// Compiled once for each instruction set, with CPU_CAPABILITY as ATen's own kernels are: no standard library here,
// whose inline functions the linker could take from this file for all others.

#include <cmath>
#include <limits>

#include <ATen/cpu/vec/vec.h>

#include "tensor/kernels/layout_loops.h"
#include "tensor/kernels/loop_helpers.h"
#include "tensor/kernels/vector_functions.h"

namespace attnscale {
namespace {

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

}  // namespace
}  // namespace attnscale

#include "tensor/kernels/recurrence_loops.h"
#include "tensor/kernels/softmax_loops.h"

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
    .row_dots = row_dots,
    .row_dots16 = row_dots16,
    .activate = activate,
    .activate_backward = activate_backward,
    .activate_backward16 = activate_backward16,
    .softmax_tile = softmax_tile<RoundByBits>,
    .softmax_end = softmax_end<RoundByBits>,
    .slopes_tile = slopes_tile<RoundByBits>,
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
  functions.softmax_tile = softmax_tile<RoundNatively>;
  functions.softmax_end = softmax_end<RoundNatively>;
  functions.slopes_tile = slopes_tile<RoundNatively>;
  return functions;
}();
#endif

}  // namespace attnscale
