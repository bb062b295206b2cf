#pragma once

#include <cstdint>

#include "tensor/head_layout.h"
#include "tensor/kernels/tiles.h"

// B batch, H heads, T positions, D width. How kernels read and write one head's rows of a tensor [B, H, T, D].

namespace attnscale {

using torch::Tensor;

/// The same numbers with the last dimension dense. Rows may lie far apart, but not share memory, as those that were
/// expanded over positions do: products do not take that.
inline Tensor with_dense_rows(const Tensor& x) {
  const bool dense = (x.stride(-1) == 1 || x.size(-1) == 1) && x.stride(-2) >= x.size(-1);
  return dense ? x : x.clone(at::MemoryFormat::Contiguous);
}

/// One head's rows as they lie.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t stride = 0;
  T* at(int64_t row) const { return data + row * stride; }
};

/// Rows of one head of a float32 or bfloat16 tensor, as float32.
class HeadRows {
 public:
  HeadRows(const Tensor& x, int64_t b, int64_t h)
      : data_(static_cast<char*>(const_cast<void*>(x.const_data_ptr())) +
              (b * x.stride(0) + h * x.stride(1)) * x.element_size()),
        stride_(x.stride(2)),
        width_(x.size(3)),
        narrow_(x.scalar_type() == at::kBFloat16) {}

  /// Rows [first, first + count) into `out` [rows, out_stride], zeros around them.
  void read(int64_t first, int64_t count, float* out, int64_t rows, int64_t out_stride) const {
    if (narrow_) {
      loops().widen_rows(bits(at<at::BFloat16>(first)), stride_, out, out_stride, count, width_);
    } else {
      for (int64_t i = 0; i < count; ++i) {
        float* row = out + i * out_stride;
        std::fill(std::copy_n(at<float>(first + i), width_, row), row + out_stride, 0.F);
      }
    }
    std::fill_n(out + count * out_stride, (rows - count) * out_stride, 0.F);
  }

  /// Rows from `first` on, if they are of T; otherwise none.
  template <class T>
  Rows<const T> as_they_lie(int64_t first) const {
    return narrow_ == (sizeof(T) == 2) ? Rows<const T>{at<T>(first), stride_} : Rows<const T>{};
  }

  void write(int64_t first, int64_t count, const float* in, int64_t in_stride) const {
    if (narrow_) convert_rows(in, in_stride, at<at::BFloat16>(first), stride_, count, width_);
    else convert_rows(in, in_stride, at<float>(first), stride_, count, width_);
  }

 private:
  template <class T>
  T* at(int64_t row) const {
    return reinterpret_cast<T*>(data_) + row * stride_;
  }

  char* data_;
  int64_t stride_, width_;
  bool narrow_;
};

/// Takes pieces of one piece of memory; without memory it only adds up how much is needed.
class Arena {
 public:
  explicit Arena(char* memory = nullptr) : memory_(memory) {}

  template <class T>
  T* take(int64_t count) {
    char* piece = memory_ ? memory_ + used_ : nullptr;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return reinterpret_cast<T*>(piece);
  }
  int64_t used() const { return used_; }

 private:
  char* memory_;
  int64_t used_ = 0;
};

}  // namespace attnscale
