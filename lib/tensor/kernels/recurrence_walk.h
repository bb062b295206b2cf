#pragma once

#include <array>
#include <limits>
#include <optional>

#include "tensor/kernels/chunk_decay_gradient.h"
#include "tensor/kernels/chunk_delta.h"
#include "tensor/kernels/chunk_features.h"
#include "tensor/kernels/recurrence_sizes.h"

// c positions of a chunk, n chunks, R = H / G heads that read one state. The passes of `recurrence_kernel` over the
// chunks of one state: each chunk reads the state S that it finds, its positions meet each other, and what they write
// makes the next state,
//   y = (exp(G) q) S + ((q k^T) * exp(G_t - G_i)) u,  S' = exp(G_last) S + (exp(G_last - G) k)^T u,
// with G the sums of log decays from the chunk's begin, and u the values, or those of the delta rule.

namespace attnscale {

/// One state's way through the chunks.
template <class T>
class RecurrenceWalk {
 public:
  RecurrenceWalk(const RecurrenceSizes& sizes, const RecurrenceCall& call, const Projection<T>& projection,
                 RecurrenceTensors& tensors, RecurrenceGradients* gradients, Arena arena)
      : s_(sizes),
        call_(call),
        tensors_(tensors),
        gradients_(gradients),
        rows_(sizes.rows()),
        fs_(padded_width(sizes.features)),
        es_(padded_width(sizes.values)),
        decay_(sizes.decay, rows_, sizes.features, arena),
        query_(call, projection, rows_, sizes.width, sizes.features, arena),
        key_(call, projection, rows_, sizes.width, sizes.features, arena) {
    if (sizes.corrects) delta_.emplace(rows_, sizes.features, sizes.values, arena);
    const int64_t of_features = rows_ * fs_, of_values = rows_ * es_, of_pairs = tile_side * tile_side;
    for (auto** piece : {&read_, &write_}) *piece = arena.take<float>(of_features);
    for (auto** piece : {&value_, &written_, &output_}) *piece = arena.take<float>(of_values);
    state_ = arena.take<float>(s_.features * es_);
    norm_ = arena.take<float>(fs_);
    weights_ = arena.take<float>(of_pairs);
    ones_ = arena.take<float>(tile_side);
    wide_ = arena.take<float>(of_pairs);
    key_left_ = arena.take<T>(of_features);
    left_ = arena.take<T>(std::max({of_features, of_values, of_pairs}));
    turned_key_ = arena.take<T>(panel_size<T>(s_.features, rows_));
    value_panels_ = arena.take<T>(std::max(panel_size<T>(rows_, s_.values), panel_size<T>(s_.values, rows_)));
    state_panels_ = arena.take<T>(panel_size<T>(s_.features, s_.values));
    if (gradients) {
      for (auto** piece : {&of_query_, &of_reader_, &of_writer_, &share_}) *piece = arena.take<float>(of_features);
      for (auto** piece : {&of_output_, &of_value_}) *piece = arena.take<float>(of_values);
      of_state_ = arena.take<float>(s_.features * es_);
      of_norm_ = arena.take<float>(fs_);
      of_weights_ = arena.take<float>(of_pairs);
      straight_ = arena.take<float>(of_pairs);
      if (gradients->log_decay.defined()) decay_gradient_.emplace(sizes.decay, rows_, s_.features, s_.values, arena);
      for (auto** piece : {&of_total_, &of_strength_}) *piece = arena.take<float>(tile_side);
      value_left_ = arena.take<T>(of_values);
      narrow_straight_ = arena.take<T>(of_pairs);
      key_panels_ = arena.take<T>(panel_size<T>(rows_, s_.features));
      panels_ = arena.take<T>(std::max({panel_size<T>(s_.features, rows_), panel_size<T>(rows_, s_.features),
                                        panel_size<T>(s_.values, rows_), panel_size<T>(rows_, s_.values)}));
      turned_state_ = arena.take<T>(panel_size<T>(s_.values, s_.features));
    }
    used_ = arena.used();
  }

  int64_t bytes() const { return used_; }

  void forward(int64_t b, int64_t g, bool keeps) {
    std::fill_n(ones_, tile_side, 1.F);
    std::fill_n(state_, s_.features * es_, 0.F);
    std::fill_n(norm_, fs_, 0.F);
    float before = no_exponent;  // the largest exponent so far
    for (int64_t j = 0; j < s_.chunks; ++j) {
      before = begin_chunk(b, g, j, before);
      if (keeps) keep_state(b, g, j);
      const T* turned_key = turned_right_factor(key_.values(), fs_, s_.features, rows_, turned_key_);
      const T* state = right_factor(state_, es_, s_.features, s_.values, state_panels_);
      const T* values = value_panels_;
      if (given_.data) panels_from_rows(given_.data, given_.stride, rows_, s_.values, value_panels_);
      else values = right_factor(delta_ ? correct(state) : value_, es_, rows_, s_.values, value_panels_);
      for (int64_t h = g * s_.shared(); h < (g + 1) * s_.shared(); ++h) {
        begin_query(b, h);
        const float* read = decay_.reading(query_.values(), read_);
        const T* reader = make_weights(turned_key);
        if (read != query_.values()) reader = left_factor<T>(read, rows_, fs_, left_);
        product(reader, fs_, state, output_, es_, rows_, s_.features, s_.values);
        product(left_factor<T>(weights_, rows_, tile_side, left_), tile_side, values, output_, es_, rows_, rows_,
                s_.values, true);
        if (s_.divided) divide(b, h, read);
        HeadRows(tensors_.output, b, h).write(first_, count_, output_, es_);
      }
      end_chunk(values);
    }
  }

  void backward(const Tensor& upstream, int64_t b, int64_t g) {
    std::fill_n(of_state_, s_.features * es_, 0.F);
    std::fill_n(of_norm_, fs_, 0.F);
    for (int64_t j = s_.chunks - 1; j >= 0; --j) {
      const float before = j == 0 || !tensors_.largest.defined() ? no_exponent : largest_at(b, g)[j * s_.chunk - 1];
      begin_chunk(b, g, j, before);
      find_state(b, g, j);
      const float* written =
          delta_ ? correct(right_factor(state_, es_, s_.features, s_.values, state_panels_)) : value_;
      // What the chunk writes, from the gradient of the state that the next one finds.
      const float* write = decay_.writing(key_.values(), write_);
      const Rows<const T> values =
          given_.data ? given_ : Rows<const T>{left_factor<T>(written, rows_, es_, value_left_), es_};
      float* share = decays() ? share_ : of_writer_;
      product(values.data, values.stride, turned_right_factor(of_state_, es_, s_.values, s_.features, turned_state_),
              share, fs_, rows_, s_.values, s_.features);
      const T* keys = left_factor<T>(write, rows_, fs_, key_left_);
      product(keys, fs_, right_factor(of_state_, es_, s_.features, s_.values, state_panels_), of_value_, es_, rows_,
              s_.features, s_.values);
      if (s_.divided)
        for (int64_t t = 0; t < rows_; ++t) loops().add(of_norm_, share + t * fs_, s_.features);
      if (decay_gradient_)
        decay_gradient_->start(decay_, state_, of_state_, s_.divided ? norm_ : nullptr, of_norm_, write, share);
      if (delta_ || decay_gradient_) std::fill_n(of_reader_, rows_ * fs_, 0.F);
      if (decays()) {
        std::fill_n(of_writer_, rows_ * fs_, 0.F);
        decay_.add_writing(share, of_writer_);
      }
      decay_state(of_state_, of_norm_);

      const T* turned_state = turned_right_factor(state_, es_, s_.values, s_.features, turned_state_);
      if (write != key_.values()) keys = left_factor<T>(key_.values(), rows_, fs_, key_left_);
      const T* key_panels = right_factor(key_.values(), fs_, rows_, s_.features, key_panels_);
      for (int64_t h = g * s_.shared(); h < (g + 1) * s_.shared(); ++h)
        backward_head(upstream, b, h, keys, key_panels, values, turned_state);
      if (delta_)
        delta_->backward(decay_, key_.values(), written, state_, of_value_, of_reader_, of_writer_, of_state_,
                         of_strength_);
      write_gradients(b, g);
    }
  }

 private:
  bool decays() const { return decay_.kind() != Decay::none; }

  float* largest_at(int64_t b, int64_t g) const {
    return tensors_.largest.mutable_data_ptr<float>() + (b * s_.groups + g) * s_.positions;
  }
  float* inverses_at(int64_t b, int64_t h) const {
    return tensors_.inverses.mutable_data_ptr<float>() + (b * s_.heads + h) * s_.positions + first_;
  }
  float* state_at(int64_t b, int64_t g, int64_t j) const {
    return tensors_.states.mutable_data_ptr<float>() + ((b * s_.groups + g) * s_.chunks + j) * s_.state_size();
  }

  /// Keys, values, decays and strengths of chunk j. @return the largest exponent so far
  float begin_chunk(int64_t b, int64_t g, int64_t j, float before) {
    first_ = j * s_.chunk;
    count_ = std::min(s_.chunk, s_.positions - first_);
    const HeadRows values(tensors_.value, b, g);
    given_ = delta_ || count_ < rows_ || s_.values % 2 != 0 ? Rows<const T>{} : values.template as_they_lie<T>(first_);
    if (!given_.data) values.read(first_, count_, value_, rows_, es_);
    key_.read(HeadRows(tensors_.key, b, g), first_, count_);
    if (key_.projects()) before = stabilise_keys(b, g, before);
    else if (decay_.kind() == Decay::scalar) {
      const auto* steps = tensors_.log_decay.const_data_ptr<float>() + (b * s_.groups + g) * s_.positions + first_;
      std::copy_n(steps, count_, decay_.steps());
      std::fill(decay_.steps() + count_, decay_.steps() + rows_, 0.F);
      decay_.begin();
    } else if (decay_.kind() == Decay::diagonal) {
      HeadRows(tensors_.log_decay, b, g).read(first_, count_, decay_.steps(), rows_, fs_);
      decay_.begin();
    }
    if (!delta_) return before;
    const auto* strength = tensors_.beta.const_data_ptr<float>() + (b * s_.groups + g) * s_.positions + first_;
    std::copy_n(strength, count_, delta_->strength());
    std::fill(delta_->strength() + count_, delta_->strength() + rows_, 0.F);
    return before;
  }

  /// Keys relative to the largest exponent so far, with which older ones decay. At the first key nothing is there that
  /// could.
  float stabilise_keys(int64_t b, int64_t g, float before) {
    float* largest = largest_at(b, g) + first_;
    std::array<double, tile_side> sums{};
    float highest = before;
    for (int64_t t = 0; t < rows_; ++t) {
      if (t < count_) {
        const float own = key_.largest(t);
        highest = own <= highest ? highest : own;  // NaN stays
        largest[t] = highest;
        key_.exponentials(t, highest);
      }
      if (before == no_exponent) before = highest;
      sums[static_cast<size_t>(t)] = static_cast<double>(before) - highest;
    }
    decay_.begin(sums.data());
    return highest;
  }

  void begin_query(int64_t b, int64_t h) {
    query_.read(HeadRows(tensors_.query, b, h), first_, count_);
    if (query_.projects())
      for (int64_t t = 0; t < count_; ++t) query_.exponentials(t, query_.largest(t));
  }

  /// The values that the delta rule writes.
  const float* correct(const T* state) {
    std::fill_n(written_, rows_ * es_, 0.F);
    delta_->written(decay_, key_.values(), value_, state, written_);
    return written_;
  }

  /// weights[t][i] = q_t . k_i, decayed, i <= t. @param turned_key  panels of k^T @return queries as a left factor
  const T* make_weights(const T* turned_key) {
    const T* left = left_factor<T>(query_.values(), rows_, fs_, left_);
    if (decay_.kind() == Decay::diagonal) {
      decay_.weights(query_.values(), key_.values(), weights_);
      return left;
    }
    product(left, fs_, turned_key, weights_, tile_side, rows_, s_.features, rows_);
    decay_.lower(weights_);
    return left;
  }

  void divide(int64_t b, int64_t h, const float* read) {
    float* inverse = inverses_at(b, h);
    const auto epsilon = static_cast<float>(*call_.epsilon), floor = static_cast<float>(call_.floor);
    std::array<float, tile_side> before, inside;
    loops().row_dots(read, fs_, norm_, 0, count_, s_.features, before.data());
    loops().row_dots(weights_, tile_side, ones_, 0, count_, rows_, inside.data());
    for (int64_t t = 0; t < count_; ++t) {
      const auto i = static_cast<size_t>(t);
      const float total = before[i] + inside[i] + epsilon;
      inverse[t] = call_.floor > 0 && total < floor ? 1 / floor : 1 / total;
      loops().scale(output_ + t * es_, inverse[t], s_.values);
    }
  }

  /// S and z decayed: what a chunk leaves of them.
  void decay_state(float* state, float* norm) const {
    if (!decays()) return;
    for (int64_t f = 0; f < s_.features; ++f) {
      loops().scale(state + f * es_, decay_.whole(f), s_.values);
      norm[f] *= decay_.whole(f);
    }
  }

  /// sum += rows^T panels, [F, E]
  void add_turned_product(const float* rows, const T* panels, float* sum) {
    for (int64_t first = 0; first < s_.features; first += tile_side) {
      const int64_t count = std::min(tile_side, s_.features - first);
      product(turned_left_factor(rows + first, rows_, fs_, count, wide_, left_), tile_side, panels, sum + first * es_,
              es_, count, rows_, s_.values, true);
    }
  }

  void end_chunk(const T* values) {
    if (first_ + count_ == s_.positions) return;
    const float* write = decay_.writing(key_.values(), write_);
    decay_state(state_, norm_);
    add_turned_product(write, values, state_);
    if (s_.divided)
      for (int64_t t = 0; t < count_; ++t) loops().add(write + t * fs_, norm_, s_.features);
  }

  void keep_state(int64_t b, int64_t g, int64_t j) const {
    float* to = state_at(b, g, j);
    convert_rows(state_, es_, to, s_.values, s_.features, s_.values);
    if (s_.divided) std::copy_n(norm_, s_.features, to + s_.features * s_.values);
  }
  void find_state(int64_t b, int64_t g, int64_t j) {
    const float* from = state_at(b, g, j);
    convert_rows(from, s_.values, state_, es_, s_.features, s_.values);
    if (s_.divided) std::copy_n(from + s_.features * s_.values, s_.features, norm_);
  }

  /// Gradient of the output before it was divided, and of what it was divided by.
  void begin_upstream(const Tensor& upstream, int64_t b, int64_t h) {
    HeadRows(upstream, b, h).read(first_, count_, of_output_, rows_, es_);
    if (!s_.divided) return;
    HeadRows(tensors_.output, b, h).read(first_, count_, output_, rows_, es_);
    const float* inverse = inverses_at(b, h);
    std::fill_n(of_total_, tile_side, 0.F);
    for (int64_t t = 0; t < count_; ++t) {
      float* row = of_output_ + t * es_;
      loops().scale(row, inverse[t], s_.values);
      const bool at_floor = call_.floor > 0 && inverse[t] == 1 / static_cast<float>(call_.floor);
      of_total_[t] = at_floor ? 0 : -loops().dot(row, output_ + t * es_, s_.values);
    }
  }

  /// One head's share of all gradients. Pairs lie transposed, [key][query], so that their left factors need no turning
  /// but once.
  void backward_head(const Tensor& upstream, int64_t b, int64_t h, const T* keys, const T* key_panels,
                     const Rows<const T>& values, const T* turned_state) {
    const int64_t f = s_.features, e = s_.values;
    begin_query(b, h);
    begin_upstream(upstream, b, h);
    const bool diagonal = decay_.kind() == Decay::diagonal;
    if (diagonal) {
      decay_.weights(query_.values(), key_.values(), straight_);
      loops().transpose(straight_, tile_side, weights_, tile_side, rows_, rows_);
    } else {
      product(keys, fs_, turned_right_factor(query_.values(), fs_, f, rows_, panels_), weights_, tile_side, rows_, f,
              rows_);
      decay_.upper(weights_);
    }
    product(values.data, values.stride, turned_right_factor(of_output_, es_, e, rows_, panels_), of_weights_, tile_side,
            rows_, e, rows_);
    if (s_.divided)
      for (int64_t i = 0; i < rows_; ++i) loops().add(of_total_, of_weights_ + i * tile_side, rows_);
    if (!diagonal) decay_.upper(of_weights_);

    const T* upstream_panels = right_factor(of_output_, es_, rows_, e, value_panels_);
    product(left_factor<T>(weights_, rows_, tile_side, left_), tile_side, upstream_panels, of_value_, es_, rows_, rows_,
            e, true);
    // The found state: dS += (exp(G) q)^T dy, dq = exp(G) dy S^T.
    const float* read = decay_.reading(query_.values(), read_);
    add_turned_product(read, upstream_panels, of_state_);
    float* share = decays() ? share_ : of_query_;
    product(left_factor<T>(of_output_, rows_, es_, left_), es_, turned_state, share, fs_, rows_, e, f);
    if (s_.divided)
      for (int64_t t = 0; t < count_; ++t) {
        loops().add_scaled(norm_, of_total_[t], share + t * fs_, f);
        loops().add_scaled(read + t * fs_, of_total_[t], of_norm_, f);
      }
    if (decays()) {
      std::fill_n(of_query_, rows_ * fs_, 0.F);
      decay_.add_reading(share, of_query_);
    }
    // Pairs inside the chunk.
    loops().transpose(of_weights_, tile_side, straight_, tile_side, rows_, rows_);
    const T* straight = left_factor<T>(straight_, rows_, tile_side, narrow_straight_);
    const T* turned = left_factor<T>(of_weights_, rows_, tile_side, left_);
    if (diagonal) {
      decay_.weights_backward(query_.values(), key_.values(), straight_, straight, turned, of_query_, of_writer_);
    } else {
      product(turned, tile_side, right_factor(query_.values(), fs_, rows_, f, panels_), of_writer_, fs_, rows_, rows_,
              f, true);
      product(straight, tile_side, key_panels, of_query_, fs_, rows_, rows_, f, true);
    }
    if (decay_gradient_) decay_gradient_->add(query_.values(), of_query_, 1);
    query_.write_gradient(of_query_, HeadRows(gradients_->query, b, h), first_, count_);
  }

  void write_gradients(int64_t b, int64_t g) {
    HeadRows(gradients_->value, b, g).write(first_, count_, of_value_, es_);
    if (decay_gradient_) {
      decay_gradient_->add(key_.values(), of_reader_, 1);
      decay_gradient_->add(key_.values(), of_writer_, -1);
    }
    if (delta_) {
      std::copy_n(of_strength_, count_,
                  gradients_->beta.mutable_data_ptr<float>() + (b * s_.groups + g) * s_.positions + first_);
      for (int64_t t = 0; t < rows_; ++t) loops().add(of_reader_ + t * fs_, of_writer_ + t * fs_, s_.features);
    }
    key_.write_gradient(of_writer_, HeadRows(gradients_->key, b, g), first_, count_);
    if (!decay_gradient_) return;
    decay_gradient_->finish();
    if (decay_.kind() == Decay::diagonal)
      return HeadRows(gradients_->log_decay, b, g).write(first_, count_, decay_gradient_->steps(), fs_);
    std::copy_n(decay_gradient_->steps(), count_,
                gradients_->log_decay.mutable_data_ptr<float>() + (b * s_.groups + g) * s_.positions + first_);
  }

  static constexpr float no_exponent = -std::numeric_limits<float>::infinity();

  const RecurrenceSizes& s_;
  const RecurrenceCall& call_;
  RecurrenceTensors& tensors_;
  RecurrenceGradients* gradients_;
  int64_t rows_, fs_, es_, used_ = 0;  // strides of features and values
  ChunkDecay<T> decay_;
  ChunkFeatures<T> query_, key_;
  std::optional<ChunkDelta<T>> delta_;
  std::optional<ChunkDecayGradient<T>> decay_gradient_;
  // Rows of float32, and factors of T; named as in the passes. Those of the backward pass come second.
  float *read_, *write_, *value_, *written_, *output_, *state_, *norm_, *weights_, *ones_, *wide_;
  T *key_left_, *left_, *turned_key_, *value_panels_, *state_panels_;
  float *of_query_ = nullptr, *of_reader_ = nullptr, *of_writer_ = nullptr, *share_ = nullptr, *of_output_ = nullptr,
        *of_value_ = nullptr, *of_state_ = nullptr, *of_norm_ = nullptr, *of_weights_ = nullptr, *straight_ = nullptr,
        *of_total_ = nullptr, *of_strength_ = nullptr;
  T *value_left_ = nullptr, *narrow_straight_ = nullptr, *key_panels_ = nullptr, *panels_ = nullptr,
    *turned_state_ = nullptr;
  int64_t first_ = 0, count_ = 0;
  Rows<const T> given_;  // the chunk's values as they came, where they are factors of products as they are
};

}  // namespace attnscale
