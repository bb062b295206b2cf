#pragma once

#include <cstdint>

// The innermost loops of the kernels, compiled once for each instruction set that they know.

namespace attnscale {

/// The bits of a bfloat16 number.
using Bits16 = uint16_t;

/// What `activate` applies. The order is that of the table in activations.h.
enum class Activation : int { gelu, gelu_tanh, silu, relu, relu_squared };

/// What is applied to each number of queries and keys: none; elu(x) + 1; max(x, 0) + offset.
enum class FeatureMap : int { none, elu_plus_one, relu };

struct ActivationRows;   // activation_rows.h
struct TileRows;         // softmax_tile.h
struct SoftmaxGradient;  // likewise

/// Numbers that are sums of many: high + low, so that differences of large ones keep their small digits.
struct LongSums {
  const float *high, *low;
};

/// Pointers to one instruction set's loops. Nothing here allocates, and no argument may overlap another unless it says
/// so. All arithmetic is float32; bfloat16 is rounded to nearest, ties to even.
struct VectorFunctions {
  const char* instruction_set;  ///< `avx512`, `avx2`

  void (*round)(const float* in, Bits16* out, int64_t count);
  /// The same, for what is not read again soon: past the caches, where the processor can
  void (*round_away)(const float* in, Bits16* out, int64_t count);
  /// A tile: rows of `columns` numbers
  void (*round_rows)(const float* in, int64_t in_stride, Bits16* out, int64_t out_stride, int64_t rows,
                     int64_t columns);
  void (*widen)(const Bits16* in, float* out, int64_t count);
  /// Rows of `columns` numbers, with zeros behind them up to the next row's begin
  void (*widen_rows)(const Bits16* in, int64_t in_stride, float* out, int64_t out_stride, int64_t rows,
                     int64_t columns);

  /// out[c][r] = in[r][c]
  void (*transpose)(const float* in, int64_t in_stride, float* out, int64_t out_stride, int64_t rows, int64_t columns);

  /// out[c] = (even[c], odd[c]): two rows as the pairs that bfloat16 products take; odd null: zeros.
  void (*pair)(const Bits16* even, const Bits16* odd, Bits16* out, int64_t columns);
  /// All pairs of a panel: out [(rows + 1) / 2][64][2], of at most 64 columns, zeros behind them
  void (*pair_panel)(const Bits16* in, int64_t stride, int64_t rows, int64_t columns, Bits16* out);
  void (*round_pair_panel)(const float* in, int64_t stride, int64_t rows, int64_t columns, Bits16* out);

  void (*add)(const float* in, float* sum, int64_t count);                       ///< sum += in
  void (*scale)(float* x, float factor, int64_t count);                          ///< x *= factor
  float (*dot)(const float* a, const float* b, int64_t count);                   ///< in a fixed order
  float (*sum)(const float* x, int64_t count);                                   ///< likewise
  void (*multiply)(const float* in, float* x, int64_t count);                    ///< x *= in
  void (*add_scaled)(const float* in, float factor, float* sum, int64_t count);  ///< sum += factor in
  float (*largest)(const float* x, int64_t count);                               ///< NaN if one of them is
  /// out[r] = a[r] . b[r], in a fixed order
  void (*row_dots)(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t rows, int64_t columns,
                   float* out);
  void (*row_dots16)(const Bits16* a, int64_t a_stride, const Bits16* b, int64_t b_stride, int64_t rows,
                     int64_t columns, float* out);

  void (*activate)(Activation kind, const float* in, float* out, int64_t count);
  /// gradient *= f'(in), value = f(in)
  void (*activate_backward)(Activation kind, const float* in, float* gradient, float* value, int64_t count);
  /// out = f(in) factor, rounded, rows `stride` apart; in and factor, null: 1, have no gaps
  void (*activate_rows)(Activation kind, const float* in, const float* factor, Bits16* out, int64_t stride,
                        int64_t rows, int64_t columns);
  void (*activate_rows_backward)(const ActivationRows& rows);

  /// Rows of logits join softmaxes that go on, one each: a row becomes exp(factor row - highest), with the highest
  /// logit so far, and total the sum over all so far; earlier sums are to be multiplied by shrink. They are
  /// put into `narrow`, rounded and with the tile's stride, or where that is null in place.
  void (*softmax_tile)(const TileRows& tile, float* logits, Bits16* narrow, float factor, float* highest, float* total,
                       float* shrink);
  /// A softmax's end: sums [rows, columns] are divided by their totals, zero where those are. `narrow` as above.
  void (*softmax_end)(float* sums, Bits16* narrow, int64_t stride, const float* total, int64_t rows, int64_t columns);
  /// out = highest + log(total), infinite where that is zero: exp(logit - out) are the weights
  void (*log_totals)(const float* highest, const float* total, float* out, int64_t count);
  /// logits = exp(factor logits - log_total of the column), the weights again; and of the logits, from the gradients
  /// of the weights: gradients = weights (gradients - mean of the column) factor
  void (*slopes_tile)(const TileRows& tile, const SoftmaxGradient& of, float* logits, float* gradients);

  /// In place; and gradient *= the map's derivative, from its value.
  void (*map_features)(FeatureMap map, float offset, float* x, int64_t count);
  void (*map_features_backward)(FeatureMap map, float offset, const float* value, float* gradient, int64_t count);

  void (*exponentials)(float* x, float shift, int64_t count);  ///< x = exp(x - shift)

  /// sum += in, and the sum so far once more as high + low
  void (*accumulate)(const float* in, double* sum, float* high, float* low, int64_t count);
  /// out = exp(later - earlier)
  void (*exp_difference)(LongSums later, LongSums earlier, float* out, int64_t count);
  /// row *= exp(sign (sums - at))
  void (*decay_row)(float* row, float sign, LongSums sums, LongSums at, int64_t count);

  /// out[t][i] = sum_d query[t][d] key[i][d] (decay[i + 1][d] .. decay[t][d]) for i <= t < rows. All three factors have
  /// rows `stride` apart; `room` holds `width` numbers.
  void (*decayed_products)(const float* query, const float* key, const float* decay, int64_t stride, int64_t width,
                           int64_t rows, float* room, float* out, int64_t out_stride);
  /// Adds what `gradient`, of out, makes of query and key.
  void (*decayed_products_backward)(const float* query, const float* key, const float* decay, int64_t stride,
                                    int64_t width, int64_t rows, float* room, const float* gradient,
                                    int64_t gradient_stride, float* of_query, float* of_key);
};

/// Those of this machine; null where it has neither AVX2 nor AVX-512, or ATEN_CPU_CAPABILITY forbids them.
const VectorFunctions* find_vector_functions();
inline const VectorFunctions* vector_functions() {
  static const VectorFunctions* const found = find_vector_functions();
  return found;
}

/// The same where there are some, as in all that calls kernels.
inline const VectorFunctions& loops() { return *vector_functions(); }

}  // namespace attnscale
