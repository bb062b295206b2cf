#pragma once

#include <cmath>
#include <numbers>

#include "tensor/kernels/activation_rows.h"
#include "tensor/kernels/rounding_loops.h"

// Part of vector_loops.cpp: activations of feed-forward networks, and what their backward pass makes of a block of rows
// while its numbers are in the registers.

namespace attnscale {
namespace {

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

/// The same for what is rounded to bfloat16 next.
template <Activation kind>
struct NearlyValue {
  Vector operator()(const Vector& x, Vector& slope) const { return value_at<kind>(x, slope); }
};

#ifdef CPU_CAPABILITY_AVX512
/// Of GELU what depends on |x|: P = Phi(|x|) - 1/2. GELU is x / 2 + |x| P, and its slope 1/2 + sign(x) (P + |x| P').
/// Polynomials of third degree in each of 32 pieces, with the values and slopes of P at both ends: GELU within 2e-6,
/// and of that the slope, within 2e-5, not as parts of themselves: from -5 down both are 0.
struct GeluPieces {
  static constexpr int pieces = 32;
  static constexpr double length = 5.0 / (pieces - 1);  // the last piece, from 5 on, is 1/2
  alignas(64) float of_value[4][pieces] = {};

  GeluPieces() {
    const auto above_half = [](double x) { return std::erf(x / std::sqrt(2.0)) / 2; };
    const auto slope = [](double x) { return length * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); };
    for (int piece = 0; piece < pieces - 1; ++piece) {
      const double from = piece * length, to = from + length, rise = above_half(to) - above_half(from);
      const double polynomial[4] = {above_half(from), slope(from), 3 * rise - 2 * slope(from) - slope(to),
                                    slope(from) + slope(to) - 2 * rise};
      for (int power = 0; power < 4; ++power) of_value[power][piece] = static_cast<float>(polynomial[power]);
    }
    of_value[0][pieces - 1] = 0.5F;
  }
};

template <>
struct NearlyValue<Activation::gelu> {
  NearlyValue() {
    static const GeluPieces table;
    for (int power = 0; power < 4; ++power)
      for (int half = 0; half < 2; ++half)
        coefficients[power][half] = _mm512_load_ps(table.of_value[power] + 16 * half);
  }

  Vector operator()(const Vector& x, Vector& slope) const {
    constexpr int down = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    const Vector size = x.abs();
    const Vector place = _mm512_min_ps(_mm512_set1_ps(GeluPieces::pieces - 0.5F),  // NaN stays NaN
                                       size * Vector(static_cast<float>(1 / GeluPieces::length)));
    const __m512i piece = _mm512_cvttps_epi32(place);
    const Vector rest = _mm512_reduce_ps(place, down), sign = _mm512_and_ps(x, _mm512_set1_ps(-0.F));
    const auto at = [&](int power) {
      return Vector(_mm512_permutex2var_ps(coefficients[power][0], piece, coefficients[power][1]));
    };
    const Vector highest = at(3) * rest, second = highest + at(2), first = at::vec::fmadd(second, rest, at(1));
    const Vector value = at::vec::fmadd(first, rest, at(0));
    const Vector derivative = at::vec::fmadd(rest, second + highest, first);  // by `rest`
    slope = Vector(0.5F) + Vector(_mm512_xor_ps(at::vec::fmadd(place, derivative, value), sign));
    return at::vec::fmadd(size, value, x * Vector(0.5F));
  }

 private:
  __m512 coefficients[4][2];
};
#endif

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

void activate_backward(Activation kind, const float* in, float* gradient, float* value, int64_t count) {
  with_kind(kind, [&]<Activation known>() {
    by_vectors(count, [&](int64_t i, int64_t n) {
      Vector slope;
      store(value_at<known>(loaded(in + i, n), slope), value + i, n);
      store(slope * loaded(gradient + i, n), gradient + i, n);
    });
  });
}

template <class Round>
void activate_rows(Activation kind, const float* in, const float* factor, Bits16* out, int64_t stride, int64_t rows,
                   int64_t columns) {
  with_kind(kind, [&]<Activation known>() {
    const NearlyValue<known> value_of;
    for (int64_t r = 0; r < rows; ++r)
      by_vectors(columns, [&](int64_t i, int64_t n) {
        Vector slope;
        auto value = value_of(loaded(in + r * columns + i, n), slope);
        if (factor) value = value * loaded(factor + r * columns + i, n);
        Round::put(value, out + r * stride + i, n);
      });
  });
}

/// Of one row, some numbers.
struct ActivationStep {
  Vector of_in, of_factor, value;
};

template <Activation kind>
inline ActivationStep step_back(const NearlyValue<kind>& value_of, const ActivationRows& of, int64_t at, int64_t n) {
  ActivationStep step{Vector(0.F), Vector(0.F), Vector(0.F)};
  Vector slope;
  step.value = value_of(loaded(of.in + at, n), slope);
  const auto gradient = loaded(of.gradient + at, n);
  step.of_in = slope * gradient;
  if (of.factor) {
    const auto factor = loaded(of.factor + at, n);
    step.of_factor = gradient * step.value;
    step.of_in = step.of_in * factor;
    step.value = step.value * factor;
  }
  return step;
}

/// Two rows' numbers from column i on, to where they are wanted. @param with_odd  whether there is a second row
template <class Round>
inline void put_both(const Vector& even, const Vector& odd, bool with_odd, Bits16* out, int64_t stride, Bits16* panel,
                     float* sum, int64_t i, int64_t n) {
  if (out) {
    Round::put(even, out + i, n);
    if (with_odd) Round::put(odd, out + stride + i, n);
  }
  if (panel) Round::put_pairs(even, odd, panel + 2 * i, n);
  if (sum) store(loaded(sum + i, n) + (even + odd), sum + i, n);
}

template <class Round>
void activate_rows_backward(const ActivationRows& of) {
  constexpr int64_t panel_width = 64;
  const auto pairs_of = [](Bits16* panel, int64_t row) { return panel ? panel + row * panel_width : nullptr; };
  with_kind(of.kind, [&]<Activation kind>() {
    const NearlyValue<kind> value_of;
    for (int64_t r = 0; r < of.rows; r += 2) {
      const bool with_odd = r + 1 < of.rows;
      Bits16* const out[2] = {of.out[0] ? of.out[0] + r * of.stride : nullptr,
                              of.out[1] ? of.out[1] + r * of.stride : nullptr};
      Bits16* const panels[3] = {pairs_of(of.panels[0], r), pairs_of(of.panels[1], r), pairs_of(of.value_panel, r)};
      by_vectors(of.columns, [&](int64_t i, int64_t n) {
        const int64_t at = r * of.columns + i;
        const auto even = step_back(value_of, of, at, n);
        const auto odd = with_odd ? step_back(value_of, of, at + of.columns, n)
                                  : ActivationStep{Vector(0.F), Vector(0.F), Vector(0.F)};
        put_both<Round>(even.of_in, odd.of_in, with_odd, out[0], of.stride, panels[0], of.sums[0], i, n);
        if (of.factor)
          put_both<Round>(even.of_factor, odd.of_factor, with_odd, out[1], of.stride, panels[1], of.sums[1], i, n);
        put_both<Round>(even.value, odd.value, with_odd, nullptr, 0, panels[2], nullptr, i, n);
      });
      for (auto* panel : panels)
        if (panel)
          for (int64_t c = 2 * of.columns; c < 2 * panel_width; ++c) panel[c] = 0;
    }
  });
}

}  // namespace
}  // namespace attnscale
