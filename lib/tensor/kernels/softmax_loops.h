#pragma once

#include <type_traits>

#include "tensor/kernels/rounding_loops.h"
#include "tensor/kernels/softmax_tile.h"

// Part of vector_loops.cpp: the softmax of attention, a tile of logits in one call, so that the processor works on
// several rows at once. What is rounded for the next product is rounded in the registers.

namespace attnscale {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

float largest(const float* x, int64_t count) {
  Vector most(minus_infinity);
  by_vectors(count, [&](int64_t i, int64_t n) {
    most = at::vec::maximum(most, chosen(loaded(x + i, n), lanes_below(n), Vector(minus_infinity)));
  });
  return highest_of(most);
}

/// Which numbers of a row count.
struct Seen {
  int64_t low, high;
  uint64_t kept;

  static Seen of(const TileRows& tile, int64_t row) {
    return {tile.low[row], tile.high[row], tile.kept ? tile.kept[row] : ~uint64_t{0}};
  }
  /// Of the vector that begins with number i.
  template <bool by_bits>
  Lanes lanes(int64_t i) const {
    const Lanes between = lanes_below(high - i) & ~lanes_below(low - i);
    return by_bits ? between & static_cast<Lanes>(kept >> i) : between;
  }
};

/// All lanes of a vector count: the loops inside a row are made for that, its ends for `Lanes`.
struct AllLanes {};
inline Vector chosen(const Vector& x, AllLanes, const Vector&) { return x; }

/// Calls work(i, lanes) for each vector that holds numbers that are seen.
template <bool by_bits, class Work>
inline void by_seen_vectors(const Seen& seen, const Work& work) {
  int64_t i = seen.low / width * width;
  if constexpr (by_bits) {
    for (; i < seen.high; i += width) work(i, seen.lanes<by_bits>(i));
  } else {
    if (i < seen.low) {
      work(i, seen.lanes<by_bits>(i));
      i += width;
    }
    for (; i + width <= seen.high; i += width) work(i, AllLanes{});
    if (i < seen.high) work(i, seen.lanes<by_bits>(i));
  }
}

/// Zeros where no vector holds what is seen.
template <class Row>
inline void clear_around(const Row& out, const Seen& seen, int64_t columns) {
  const Vector zero(0.F);
  const bool any = seen.low < seen.high;
  const int64_t first = any ? seen.low / width * width : columns,
                last = any ? (seen.high + width - 1) / width * width : columns;
  for (int64_t i = 0; i < first; i += width) out.put(zero, i);
  for (int64_t i = last; i < columns; i += width) out.put(zero, i);
}

/// As exact as what is put out.
template <class Row>
inline Vector exponential_for(const Row& /*out*/, const Vector& x) {
  if constexpr (std::is_same_v<Row, FloatRow>) return exponential(x);
  else return nearly_exponential(x);
}

/// The largest number of a row that counts. One that is none may get lost here, but makes the sum none below.
template <bool by_bits>
inline float top_of_row(const float* row, const Seen& seen) {
  const Vector lowest(minus_infinity);
  Vector most(lowest);
  by_seen_vectors<by_bits>(
      seen, [&](int64_t i, auto lanes) { most = higher(chosen(Vector::loadu(row + i), lanes, lowest), most); });
  return top_of(most);
}

/// @param found  the largest number of the row, times the factor
/// @return what earlier sums are multiplied by
template <bool by_bits, class Row>
inline float join_row(const float* row, const Row& out, const Seen& seen, float factor, float found, float* highest,
                      float* total) {
  constexpr float lowest = minus_infinity, not_a_number = std::numeric_limits<float>::quiet_NaN();
  const float top = found <= *highest ? *highest : found;
  if (!(top > lowest && top < -lowest)) {
    bool nothing = top < 0;
    by_seen_vectors<by_bits>(seen, [&](int64_t i, auto lanes) {
      const auto here = chosen(Vector::loadu(row + i), lanes, Vector(lowest));
      nothing = nothing && highest_of(here) == lowest;
    });
    // Infinite or none, as the softmax is then, which `exponential` may hide.
    by_seen_vectors<by_bits>(seen, [&](int64_t i, auto lanes) {
      out.put(chosen(Vector(nothing ? 0.F : not_a_number), lanes, Vector(0.F)), i);
    });
    if (!nothing) *highest = *total = not_a_number;
    return 1;
  }
  Vector sum(0.F);
  const Vector scale_by(factor), shift(top);
  by_seen_vectors<by_bits>(seen, [&](int64_t i, auto lanes) {
    const auto weight =
        chosen(exponential_for(out, at::vec::fmsub(Vector::loadu(row + i), scale_by, shift)), lanes, Vector(0.F));
    out.put(weight, i);
    sum = sum + weight;
  });
  const float shrink = *highest == lowest ? 0.F : *highest == top ? 1.F : std::exp(*highest - top);
  *total = *total * shrink + sum_of(sum);
  *highest = top;
  return shrink;
}

/// Calls work(out) with where row r goes: to `narrow`, or without one back to the floats.
template <class Round, class Work>
inline void with_row(float* rows, Bits16* narrow, int64_t place, const Work& work) {
  if (narrow) work(NarrowRow<Round>{narrow + place});
  else work(FloatRow{rows + place});
}

template <class Round, bool by_bits>
inline void join_rows(const TileRows& tile, float* logits, Bits16* narrow, float factor, float* highest, float* total,
                      float* shrink) {
  // The largest numbers of some rows first: to find one takes longer than to begin with the next.
  constexpr int64_t together = 4;
  for (int64_t first = 0; first < tile.rows; first += together) {
    const int64_t last = first + together < tile.rows ? first + together : tile.rows;
    float found[together];
    for (int64_t r = first; r < last; ++r)
      found[r - first] = (tile.bounded >> r & 1) != 0
                             ? highest[r]
                             : top_of_row<by_bits>(logits + r * tile.stride, Seen::of(tile, r)) * factor;
    for (int64_t r = first; r < last; ++r) {
      const float* row = logits + r * tile.stride;
      const auto seen = Seen::of(tile, r);
      with_row<Round>(logits, narrow, r * tile.stride, [&](const auto& out) {
        clear_around(out, seen, tile.columns);
        shrink[r] = join_row<by_bits>(row, out, seen, factor, found[r - first], highest + r, total + r);
      });
    }
  }
}

template <class Round>
void softmax_tile(const TileRows& tile, float* logits, Bits16* narrow, float factor, float* highest, float* total,
                  float* shrink) {
  const auto join = tile.kept ? join_rows<Round, true> : join_rows<Round, false>;
  join(tile, logits, narrow, factor, highest, total, shrink);
}

template <class Round>
void softmax_end(float* sums, Bits16* narrow, int64_t stride, const float* total, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = sums + r * columns;
    const Vector part(total[r] != 0 ? 1 / total[r] : 0.F);
    const auto divide = [&](const auto& out) {
      by_vectors(columns, [&](int64_t i, int64_t n) { out.put(loaded(row + i, n) * part, i, n); });
    };
    if (narrow) divide(NarrowRow<Round>{narrow + r * stride});
    else divide(FloatRow{row});
  }
}

inline void log_totals(const float* highest, const float* total, float* out, int64_t count) {
  const Vector zero(0.F), infinite(std::numeric_limits<float>::infinity());
  by_vectors(count, [&](int64_t i, int64_t n) {
    const Vector sum = loaded(total + i, n);
    store(Vector::blendv(loaded(highest + i, n) + sum.log(), infinite, sum == zero), out + i, n);
  });
}

template <class Round, bool by_bits>
inline void slopes_of_rows(const TileRows& tile, const SoftmaxGradient& of, float* logits, float* gradients) {
  const Vector scale_by(of.factor), zero(0.F);
  for (int64_t r = 0; r < tile.rows; ++r) {
    const int64_t place = r * tile.stride;
    const float *row = logits + place, *gradient = gradients + place;
    const auto seen = Seen::of(tile, r);
    with_row<Round>(logits, of.narrow_weights, place, [&](const auto& weights) {
      with_row<Round>(gradients, of.narrow_slopes, place, [&](const auto& slopes) {
        clear_around(weights, seen, tile.columns);
        clear_around(slopes, seen, tile.columns);
        by_seen_vectors<by_bits>(seen, [&](int64_t i, auto lanes) {
          constexpr bool whole = std::is_same_v<decltype(lanes), AllLanes>;
          const int64_t n = whole || of.count - i >= width ? width : of.count - i;
          const auto weight =
              exponential_for(weights, at::vec::fmsub(Vector::loadu(row + i), scale_by, loaded(of.log_totals + i, n)));
          const auto slope = weight * (Vector::loadu(gradient + i) - loaded(of.means + i, n)) * scale_by;
          weights.put(chosen(weight, lanes, zero), i);
          slopes.put(chosen(slope, lanes, zero), i);
        });
      });
    });
  }
}

template <class Round>
void slopes_tile(const TileRows& tile, const SoftmaxGradient& of, float* logits, float* gradients) {
  const auto slopes = tile.kept ? slopes_of_rows<Round, true> : slopes_of_rows<Round, false>;
  slopes(tile, of, logits, gradients);
}

template <class T>
inline void dots_of_rows(const T* a, int64_t a_stride, const T* b, int64_t b_stride, int64_t rows, int64_t columns,
                         float* out) {
  for (int64_t r = 0; r < rows; ++r) out[r] = dot_of(a + r * a_stride, b + r * b_stride, columns);
}
void row_dots(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t rows, int64_t columns,
              float* out) {
  dots_of_rows(a, a_stride, b, b_stride, rows, columns, out);
}
void row_dots16(const Bits16* a, int64_t a_stride, const Bits16* b, int64_t b_stride, int64_t rows, int64_t columns,
                float* out) {
  dots_of_rows(a, a_stride, b, b_stride, rows, columns, out);
}

}  // namespace
}  // namespace attnscale
