#pragma once

#include "tensor/kernels/chunk_decay.h"

// The delta rule inside a chunk of c positions: which values its keys write. F features, E value width; rows lie
// `stride` of their width apart, rows of a tile of pairs 64.

namespace attnscale {

/// (1 - n)^{-1} for n [rows, 64] with zeros on and above the diagonal, by blocks of 16 rows: a block's own part row by
/// row, the part before it as two products. @param room  [16, 64]
inline void unit_lower_inverse(const float* n, int64_t rows, float* inverse, float* room) {
  constexpr int64_t block = 16;
  std::fill_n(inverse, rows * tile_side, 0.F);
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t count = std::min(block, rows - first);
    float* own = inverse + first * (tile_side + 1);
    for (int64_t t = 0; t < count; ++t) {
      own[t * tile_side + t] = 1;
      for (int64_t i = 0; i < t; ++i)
        loops().add_scaled(own + i * tile_side, n[(first + t) * tile_side + first + i], own + t * tile_side, i + 1);
    }
    if (first == 0) continue;
    tile_product(n + first * tile_side, tile_side, inverse, room, tile_side, count, first, first, false);
    tile_product(own, tile_side, room, inverse + first * tile_side, tile_side, count, count, first, false);
  }
}

/// With strengths b, decays A_ti = exp(G_t - G_i) and the state S that the chunk finds: the values written are
/// u = (1 + b A k k^T below the diagonal)^{-1} r, r_t = b_t (v_t - exp(G_t) S^T k_t). Yang et al. 2024,
/// arXiv:2406.06484, section 3.2; 2412.06464, section 3.3. The system and its inverse are float32.
template <class T>
class ChunkDelta {
 public:
  ChunkDelta(int64_t rows, int64_t features, int64_t values, Arena& arena)
      : rows_(rows),
        features_(features),
        values_(values),
        feature_stride_(padded_width(features)),
        value_stride_(padded_width(values)),
        strength_(arena.take<float>(rows)),
        met_(arena.take<float>(rows * tile_side)),
        system_(arena.take<float>(rows * tile_side)),
        inverse_(arena.take<float>(rows * tile_side)),
        room_(arena.take<float>(tile_side * tile_side)),
        read_room_(arena.take<float>(rows * feature_stride_)),
        found_(arena.take<float>(rows * value_stride_)),
        right_(arena.take<float>(rows * value_stride_)),
        key_share_(arena.take<float>(rows * feature_stride_)),
        left_(arena.take<T>(tile_side * std::max(feature_stride_, value_stride_))),
        panels_(arena.take<T>(panel_size<T>(std::max(features, values), std::max({features, values, tile_side})) +
                              panel_size<T>(tile_side, std::max(features, values)))),
        wide_panels_(arena.take<float>(panel_size<float>(features, rows))) {}

  float* strength() { return strength_; }  ///< b [c], zeros at positions that are not there: to be filled

  /// @param key  [c, F] @param value  [c, E] @param state  panels of S [F, E] @param out  u [c, E]
  void written(const ChunkDecay<T>& decay, const float* key, const float* value, const T* state, float* out) {
    product(key, feature_stride_, turned_right_factor(key, feature_stride_, features_, rows_, wide_panels_), met_,
            tile_side, rows_, features_, rows_);
    decay.lower(met_, /*diagonal=*/false);
    for (int64_t t = 0; t < rows_; ++t) {
      std::fill_n(system_ + t * tile_side, tile_side, 0.F);
      loops().add_scaled(met_ + t * tile_side, -strength_[t], system_ + t * tile_side, t);
    }
    unit_lower_inverse(system_, rows_, inverse_, room_);
    read_ = decay.reading(key, read_room_);
    product(left_factor<T>(read_, rows_, feature_stride_, left_), feature_stride_, state, found_, value_stride_, rows_,
            features_, values_);
    for (int64_t t = 0; t < rows_; ++t) {
      float *found = found_ + t * value_stride_, *right = right_ + t * value_stride_;
      std::fill(found + values_, found + value_stride_, 0.F);
      loops().scale(found, -1, values_);
      loops().add(value + t * value_stride_, found, values_);  // v - exp(G) S^T k
      std::copy_n(found, value_stride_, right);
      loops().scale(right, strength_[t], value_stride_);
    }
    product(left_factor<T>(inverse_, rows_, tile_side, left_), tile_side,
            right_factor<T>(right_, value_stride_, rows_, values_, panels_), out, value_stride_, rows_, rows_, values_);
  }

  /// After `written` of the same chunk, from the gradient of u.
  /// @param of_written  gradient of u, which becomes that of v
  /// @param of_reader, of_writer  what is added to the gradient of key, by which side of the decays its positions are
  /// @param state  S [F, E], rows @param of_state  what is added to its gradient @param of_strength  [c], filled
  void backward(const ChunkDecay<T>& decay, const float* key, const float* written, const float* state,
                float* of_written, float* of_reader, float* of_writer, float* of_state, float* of_strength) {
    const int64_t f = features_, e = values_;
    // r = (1 + L) u: its gradient is the inverse's transpose times u's, and L's is minus r's times u^T.
    loops().transpose(inverse_, tile_side, system_, tile_side, rows_, rows_);
    product(left_factor<T>(system_, rows_, tile_side, left_), tile_side,
            right_factor<T>(of_written, value_stride_, rows_, e, panels_), right_, value_stride_, rows_, rows_, e);
    for (int64_t t = 0; t < rows_; ++t)
      std::fill(right_ + t * value_stride_ + e, right_ + (t + 1) * value_stride_, 0.F);
    product(left_factor<T>(right_, rows_, value_stride_, left_), value_stride_,
            turned_right_factor(written, value_stride_, e, rows_, panels_), system_, tile_side, rows_, e, rows_);
    for (int64_t t = 0; t < rows_; ++t) {
      float *slope = system_ + t * tile_side, *of_right = right_ + t * value_stride_;
      of_strength[t] =
          loops().dot(of_right, found_ + t * value_stride_, e) - loops().dot(slope, met_ + t * tile_side, t);
      loops().scale(of_right, strength_[t], e);
      std::copy_n(of_right, e, of_written + t * value_stride_);
      loops().scale(of_right, -1, e);  // of S^T k exp(G)
    }
    decay.lower(system_, /*diagonal=*/false);
    for (int64_t t = 0; t < rows_; ++t) loops().scale(system_ + t * tile_side, -strength_[t], t);

    const T* keys = right_factor<T>(key, feature_stride_, rows_, f, panels_);
    product(left_factor<T>(system_, rows_, tile_side, left_), tile_side, keys, key_share_, feature_stride_, rows_,
            rows_, f);
    add(key_share_, of_reader);
    loops().transpose(system_, tile_side, room_, tile_side, rows_, rows_);
    product(left_factor<T>(room_, rows_, tile_side, left_), tile_side, keys, key_share_, feature_stride_, rows_, rows_,
            f);
    add(key_share_, of_writer);
    product(left_factor<T>(right_, rows_, value_stride_, left_), value_stride_,
            turned_right_factor(state, value_stride_, e, f, panels_), key_share_, feature_stride_, rows_, e, f);
    decay.add_reading(key_share_, of_reader);
    // Turned keys, 64 a row, one panel of features after the other.
    const T* changes = right_factor<T>(right_, value_stride_, rows_, e, panels_);
    for (int64_t first = 0; first < f; first += tile_side) {
      const int64_t count = std::min(tile_side, f - first);
      product(turned_left_factor(read_ + first, rows_, feature_stride_, count, room_, left_), tile_side, changes,
              of_state + first * value_stride_, value_stride_, count, rows_, e, true);
    }
  }

 private:
  void add(const float* rows, float* sum) const {
    for (int64_t t = 0; t < rows_; ++t) loops().add(rows + t * feature_stride_, sum + t * feature_stride_, features_);
  }

  int64_t rows_, features_, values_, feature_stride_, value_stride_;
  float *strength_, *met_, *system_, *inverse_, *room_, *read_room_, *found_, *right_, *key_share_;
  T *left_, *panels_;
  float* wide_panels_;
  const float* read_ = nullptr;
};

}  // namespace attnscale
