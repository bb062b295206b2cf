#pragma once

#include <array>

#include "tensor/kernels/chunk_factors.h"
#include "tensor/kernels/head_rows.h"

// c positions of a chunk, F features. Rows of features lie `stride` apart, rows of a tile of pairs 64.

namespace attnscale {

enum class Decay { none, scalar, diagonal };

/// The decays of one chunk: sums G_t of log decays from its begin, and their exponentials.
template <class T>
class ChunkDecay {
 public:
  ChunkDecay(Decay kind, int64_t rows, int64_t features, Arena& arena)
      : kind_(kind), rows_(rows), features_(features), stride_(padded_width(features)) {
    if (kind == Decay::none) return;
    const int64_t width = kind == Decay::scalar ? 1 : stride_, count = rows * width;
    steps_ = arena.take<float>(count);
    sums_ = arena.take<double>(width);
    for (auto** piece : {&high_, &low_, &since_begin_, &until_end_}) *piece = arena.take<float>(count);
    zeros_ = arena.take<float>(std::max(width, tile_side));
    if (kind == Decay::scalar) return;
    for (auto** piece : {&by_step_, &late_query_, &early_key_, &factor_, &share_}) *piece = arena.take<float>(count);
    left_ = arena.take<T>(count);
    right_ = arena.take<T>(panel_size<T>(std::max(features, rows), std::max(features, rows)));
  }

  Decay kind() const { return kind_; }
  int64_t width() const { return kind_ == Decay::scalar ? 1 : stride_; }

  /// The log decays of the chunk's positions, [c] or [c, stride], zeros at those that are not there: to be filled.
  float* steps() { return steps_; }

  /// Takes what was filled in.
  void begin() {
    std::fill_n(sums_, width(), 0.0);
    for (int64_t t = 0; t < rows_; ++t)
      loops().accumulate(steps_ + t * width(), sums_, high_ + t * width(), low_ + t * width(), width());
    exponentials();
  }

  /// Takes sums instead, one a position.
  void begin(const double* sums) {
    for (int64_t t = 0; t < rows_; ++t) {
      high_[t] = static_cast<float>(sums[t]);
      low_[t] = static_cast<float>(sums[t] - high_[t]);
    }
    exponentials();
  }

  /// What is left of the state that the chunk found, at row f of it.
  float whole(int64_t f) const {
    return kind_ == Decay::none ? 1 : since_begin_[(rows_ - 1) * width() + (kind_ == Decay::scalar ? 0 : f)];
  }

  /// Rows times exp(G_t), and times exp(G_last - G_t): what reads the found state, and what writes the next. In their
  /// place where nothing decays.
  const float* reading(const float* rows, float* room) const { return decayed(rows, since_begin_, room); }
  const float* writing(const float* rows, float* room) const { return decayed(rows, until_end_, room); }
  void add_reading(const float* rows, float* sum) const { add_decayed(rows, since_begin_, sum); }
  void add_writing(const float* rows, float* sum) const { add_decayed(rows, until_end_, sum); }

  /// products[t][i] for i <= t, or i < t, times what is left of i at t; zeros elsewhere. Not for diagonal decay.
  void lower(float* products, bool diagonal = true) const {
    for (int64_t t = 0; t < rows_; ++t, products += tile_side) {
      const int64_t count = t + diagonal;
      if (kind_ == Decay::scalar) loops().decay_row(products, -1, sums(0), sums(t), count);
      std::fill(products + count, products + tile_side, 0.F);
    }
  }
  /// The same for products[i][t].
  void upper(float* products) const {
    for (int64_t i = 0; i < rows_; ++i, products += tile_side) {
      if (kind_ == Decay::scalar) loops().decay_row(products + i, 1, sums(i), sums(i), rows_ - i);
      std::fill(products, products + i, 0.F);
    }
  }

  /// Diagonal decay: weights[t][i] = sum_f query_t key_i exp(G_t - G_i) for i <= t, zeros elsewhere. By blocks of 16
  /// rows: older keys as products, decays taken from the position before the block; those of the block one by one.
  void weights(const float* query, const float* key, float* out) {
    std::fill_n(out, rows_ * tile_side, 0.F);
    for (int64_t first = 0; first < rows_; first += block) {
      const int64_t count = std::min(block, rows_ - first);
      loops().decayed_products(query + first * stride_, key + first * stride_, by_step_ + first * stride_, stride_,
                               features_, count, factor_, out + first * (tile_side + 1), tile_side);
      if (first == 0) continue;
      meet_at(first, count, query, key);
      const T* left = left_factor<T>(late_query_, count, stride_, left_);
      product(left, stride_, turned_right_factor<T>(early_key_, stride_, features_, first, right_),
              out + first * tile_side, tile_side, count, features_, first);
    }
  }

  /// Adds what the gradient of those weights makes of query and key. @param gradient, turned  it and its transpose
  void weights_backward(const float* query, const float* key, const float* gradient, const T* narrow_gradient,
                        const T* narrow_turned, float* of_query, float* of_key) {
    for (int64_t first = 0; first < rows_; first += block) {
      const int64_t count = std::min(block, rows_ - first), from = first * stride_;
      loops().decayed_products_backward(query + from, key + from, by_step_ + from, stride_, features_, count, factor_,
                                        gradient + first * (tile_side + 1), tile_side, of_query + from, of_key + from);
      if (first == 0) continue;
      meet_at(first, count, query, key);
      product(narrow_gradient + first * tile_side, tile_side,
              right_factor<T>(early_key_, stride_, first, features_, right_), share_, stride_, count, first, features_);
      for (int64_t t = 0; t < count; ++t) {
        loops().exp_difference(sums(first + t), sums(first - 1), factor_, stride_);
        loops().multiply(factor_, share_ + t * stride_, stride_);
        loops().add(share_ + t * stride_, of_query + from + t * stride_, features_);
      }
      product(narrow_turned + first, tile_side, right_factor<T>(late_query_, stride_, count, features_, right_), share_,
              stride_, first, count, features_);
      for (int64_t i = 0; i < first; ++i) {
        loops().exp_difference(sums(first - 1), sums(i), factor_, stride_);
        loops().multiply(factor_, share_ + i * stride_, stride_);
        loops().add(share_ + i * stride_, of_key + i * stride_, features_);
      }
    }
  }

 private:
  static constexpr int64_t block = 16;

  LongSums sums(int64_t t) const { return {high_ + t * width(), low_ + t * width()}; }

  void exponentials() {
    std::fill_n(zeros_, width(), 0.F);
    if (kind_ == Decay::scalar) {
      std::fill_n(since_begin_, rows_, 1.F);
      std::fill_n(until_end_, rows_, 1.F);
      loops().decay_row(since_begin_, 1, sums(0), {zeros_, zeros_}, rows_);
      loops().decay_row(until_end_, -1, sums(0), sums(rows_ - 1), rows_);
      return;
    }
    for (int64_t t = 0; t < rows_; ++t) {
      loops().exp_difference(sums(t), {zeros_, zeros_}, since_begin_ + t * stride_, stride_);
      loops().exp_difference(sums(rows_ - 1), sums(t), until_end_ + t * stride_, stride_);
      loops().exp_difference({steps_ + t * stride_, zeros_}, {zeros_, zeros_}, by_step_ + t * stride_, stride_);
    }
  }

  /// Queries of a block and keys before it, both with what decays between them and the position before the block.
  void meet_at(int64_t first, int64_t count, const float* query, const float* key) {
    for (int64_t t = 0; t < count; ++t) {
      loops().exp_difference(sums(first + t), sums(first - 1), late_query_ + t * stride_, stride_);
      loops().multiply(query + (first + t) * stride_, late_query_ + t * stride_, stride_);
    }
    for (int64_t i = 0; i < first; ++i) {
      loops().exp_difference(sums(first - 1), sums(i), early_key_ + i * stride_, stride_);
      loops().multiply(key + i * stride_, early_key_ + i * stride_, stride_);
    }
  }

  const float* decayed(const float* rows, const float* factors, float* room) const {
    if (kind_ == Decay::none) return rows;
    std::copy_n(rows, rows_ * stride_, room);
    if (kind_ == Decay::diagonal) loops().multiply(factors, room, rows_ * stride_);
    else
      for (int64_t t = 0; t < rows_; ++t) loops().scale(room + t * stride_, factors[t], stride_);
    return room;
  }

  void add_decayed(const float* rows, const float* factors, float* sum) const {
    for (int64_t t = 0; t < rows_; ++t) {
      const float *in = rows + t * stride_, factor = kind_ == Decay::scalar ? factors[t] : 1;
      float* to = sum + t * stride_;
      if (kind_ != Decay::diagonal) loops().add_scaled(in, factor, to, features_);
      else
        for (int64_t f = 0; f < features_; ++f) to[f] += factors[t * stride_ + f] * in[f];
    }
  }

  Decay kind_;
  int64_t rows_, features_, stride_;
  double* sums_ = nullptr;
  float *steps_ = nullptr, *high_ = nullptr, *low_ = nullptr, *since_begin_ = nullptr, *until_end_ = nullptr,
        *zeros_ = nullptr, *by_step_ = nullptr, *late_query_ = nullptr, *early_key_ = nullptr, *factor_ = nullptr,
        *share_ = nullptr;
  T *left_ = nullptr, *right_ = nullptr;
};

}  // namespace attnscale
