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

float sum(const float* x, int64_t count) {
  Vector total(0.F);
  by_vectors(count, [&](int64_t i, int64_t n) { total = total + Vector::loadu(x + i, n); });
  return sum_of(total);
}

}  // namespace
}  // namespace attnscale

#include "tensor/kernels/activation_loops.h"
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
    .sum = sum,
    .multiply = multiply,
    .add_scaled = add_scaled,
    .largest = largest,
    .row_dots = row_dots,
    .row_dots16 = row_dots16,
    .activate = activate,
    .activate_backward = activate_backward,
    .activate_rows = activate_rows<RoundByBits>,
    .activate_rows_backward = activate_rows_backward<RoundByBits>,
    .softmax_tile = softmax_tile<RoundByBits>,
    .softmax_end = softmax_end<RoundByBits>,
    .log_totals = log_totals,
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
  functions.activate_rows = activate_rows<RoundNatively>;
  functions.activate_rows_backward = activate_rows_backward<RoundNatively>;
  functions.softmax_tile = softmax_tile<RoundNatively>;
  functions.softmax_end = softmax_end<RoundNatively>;
  functions.slopes_tile = slopes_tile<RoundNatively>;
  return functions;
}();
#endif

}  // namespace attnscale
