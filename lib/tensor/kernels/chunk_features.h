#pragma once

#include <cmath>

#include "tensor/empty.h"
#include "tensor/kernels/chunk_factors.h"
#include "tensor/kernels/head_rows.h"
#include "tensor/kernels/recurrence_kernel.h"

// Queries and keys of a chunk as features. c positions, D width, F features; rows lie `stride` of their width apart.

namespace attnscale {

/// Panels of a random projection W [F, D]; made once for a call.
template <class T>
struct Projection {
  Tensor forward, backward;  ///< of W^T in float32, of W

  Projection() = default;
  explicit Projection(const Tensor& w) {
    const int64_t f = w.size(0), d = w.size(1);
    forward = empty_on_cpu({panel_size<float>(d, f)}, at::kFloat);
    panels_from_columns(w.const_data_ptr<float>(), d, d, f, forward.mutable_data_ptr<float>());
    backward = empty_on_cpu({panel_size<T>(f, d)}, c10::CppTypeToScalarType<T>::value);
    panels_from_rows(w.const_data_ptr<float>(), d, f, d, backward.mutable_data_ptr<T>());
  }
};

/// What makes the features of rows that `HeadRows` reads, and takes their gradients back.
template <class T>
class ChunkFeatures {
 public:
  ChunkFeatures(const RecurrenceCall& call, const Projection<T>& projection, int64_t rows, int64_t width,
                int64_t features, Arena& arena)
      : call_(call),
        projection_(projection),
        rows_(rows),
        width_(width),
        features_(features),
        width_stride_(padded_width(width)),
        stride_(padded_width(features)),
        values_(arena.take<float>(rows * stride_)),
        scale_(static_cast<float>(std::pow(static_cast<double>(width), -0.25))) {
    if (!projects()) return;
    raw_ = arena.take<float>(rows * width_stride_);
    of_raw_ = arena.take<float>(rows * width_stride_);
    left_ = arena.take<T>(rows * stride_);
  }

  bool projects() const { return call_.projection.defined(); }
  const float* values() const { return values_; }  ///< [c, F], zeros around them

  void read(const HeadRows& from, int64_t first, int64_t count) {
    if (!projects()) {
      from.read(first, count, values_, rows_, stride_);
      by_rows(count, [&](int64_t t, int64_t numbers) {
        loops().map_features(call_.map, static_cast<float>(call_.offset), row(t), numbers);
      });
      return;
    }
    from.read(first, count, raw_, rows_, width_stride_);
    loops().scale(raw_, scale_, rows_ * width_stride_);
    std::fill_n(values_, rows_ * stride_, 0.F);
    product(raw_, width_stride_, projection_.forward.template const_data_ptr<float>(), values_, stride_, count, width_,
            features_);
  }

  /// With a projection: the exponents of row t less those of |x|^2 / 2 and `shift`, as features.
  void exponentials(int64_t t, float shift) { loops().exponentials(row(t), shift + half_square(t), features_); }
  /// The largest exponent of row t.
  float largest(int64_t t) const { return loops().largest(row(t), features_) - half_square(t); }

  /// Turns the gradient of the features into that of the rows, and writes it.
  void write_gradient(float* gradient, const HeadRows& to, int64_t first, int64_t count) {
    if (!projects()) {
      by_rows(count, [&](int64_t t, int64_t numbers) {
        loops().map_features_backward(call_.map, static_cast<float>(call_.offset), row(t), gradient + t * stride_,
                                      numbers);
      });
      return to.write(first, count, gradient, stride_);
    }
    for (int64_t t = 0; t < rows_; ++t) {
      loops().multiply(row(t), gradient + t * stride_, features_);
      std::fill(gradient + t * stride_ + features_, gradient + (t + 1) * stride_, 0.F);
    }
    product(left_factor<T>(gradient, rows_, stride_, left_), stride_, projection_.backward.template const_data_ptr<T>(),
            of_raw_, width_stride_, rows_, features_, width_);
    for (int64_t t = 0; t < count; ++t) {
      const float sum = loops().sum(gradient + t * stride_, features_);
      float* of_row = of_raw_ + t * width_stride_;
      loops().add_scaled(raw_ + t * width_stride_, -sum, of_row, width_);
      loops().scale(of_row, scale_, width_);
    }
    to.write(first, count, of_raw_, width_stride_);
  }

 private:
  float* row(int64_t t) const { return values_ + t * stride_; }

  /// Calls work(row, numbers) for rows of features; once for all of them where nothing lies between.
  template <class Work>
  void by_rows(int64_t count, const Work& work) const {
    if (features_ == stride_) return work(0, count * stride_);
    for (int64_t t = 0; t < count; ++t) work(t, features_);
  }
  float half_square(int64_t t) const {
    const float* x = raw_ + t * width_stride_;
    return loops().dot(x, x, width_) / 2;
  }

  const RecurrenceCall& call_;
  const Projection<T>& projection_;
  int64_t rows_, width_, features_, width_stride_, stride_;
  float* values_;
  float *raw_ = nullptr, *of_raw_ = nullptr;
  T* left_ = nullptr;
  float scale_;
};

}  // namespace attnscale
