#include "tensor/kernels/tiles.h"

#include <atomic>
#include <new>
#include <utility>

namespace attnscale {
namespace {

/// Pairs of rows of float32 or bfloat16.
void pair_panel(const float* in, int64_t stride, int64_t rows, int64_t columns, at::BFloat16* out) {
  loops().round_pair_panel(in, stride, rows, columns, bits(out));
}
void pair_panel(const at::BFloat16* in, int64_t stride, int64_t rows, int64_t columns, at::BFloat16* out) {
  loops().pair_panel(bits(in), stride, rows, columns, bits(out));
}

/// Two bfloat16 numbers move as one number of 32 bits.
const float* as_pairs(const at::BFloat16* x) { return reinterpret_cast<const float*>(x); }
float* as_pairs(at::BFloat16* x) { return reinterpret_cast<float*>(x); }

}  // namespace

template <class From, class T>
void panels_from_rows(const From* in, int64_t stride, int64_t inner, int64_t columns, T* out) {
  for (int64_t first = 0; first < columns; first += panel_columns) {
    const int64_t count = std::min(panel_columns, columns - first);
    if constexpr (sizeof(T) == 4) {
      for (int64_t i = 0; i < inner; ++i, out += panel_columns) {
        std::copy_n(in + i * stride + first, count, out);
        std::fill(out + count, out + panel_columns, 0.F);
      }
    } else {
      pair_panel(in + first, stride, inner, count, out);
      out += inner_of<T>(inner) * panel_columns;
    }
  }
}

template <class From, class T>
void panels_from_columns(const From* in, int64_t stride, int64_t inner, int64_t columns, T* out) {
  for (int64_t first = 0; first < columns; first += panel_columns) {
    const int64_t count = std::min(panel_columns, columns - first);
    const From* rows = in + first * stride;  // [count, inner]
    if constexpr (sizeof(T) == 4) {
      if (count < panel_columns) std::fill_n(out, inner * panel_columns, 0.F);
      loops().transpose(rows, stride, out, panel_columns, count, inner);
      out += inner * panel_columns;
    } else {
      const int64_t even = inner_of<T>(inner);
      if (count < panel_columns) std::fill_n(out, even * panel_columns, at::BFloat16(0));
      if (std::is_same_v<From, T> && even == inner && stride % 2 == 0) {
        loops().transpose(as_pairs(reinterpret_cast<const T*>(rows)), stride / 2, as_pairs(out), panel_columns, count,
                          even / 2);
      } else {
        auto* narrow = reinterpret_cast<T*>(scratch(0, panel_columns * even / 2));
        for (int64_t i = 0; i < count; ++i) {
          convert(rows + i * stride, narrow + i * even, inner);
          if (even > inner) narrow[i * even + inner] = 0;
        }
        loops().transpose(as_pairs(narrow), even / 2, as_pairs(out), panel_columns, count, even / 2);
      }
      out += even * panel_columns;
    }
  }
}

template <class T>
void transpose_rows(const T* in, int64_t stride, int64_t rows, int64_t columns, T* out, int64_t out_stride) {
  if constexpr (sizeof(T) == 4) {
    loops().transpose(in, stride, out, out_stride, rows, columns);
  } else {
    // Pairs of rows first, sixteen at a time so that they stay in the nearest cache; then pairs are transposed.
    constexpr int64_t batch = 32;
    auto* pairs = reinterpret_cast<T*>(scratch(0, batch / 2 * columns));
    for (int64_t first = 0; first < rows; first += batch) {
      const int64_t count = std::min(batch, rows - first);
      for (int64_t i = 0; i < count; i += 2) {
        const T* even = in + (first + i) * stride;
        loops().pair(bits(even), i + 1 < count ? bits(even + stride) : nullptr, bits(pairs + i * columns), columns);
      }
      loops().transpose(as_pairs(pairs), columns, as_pairs(out + first), out_stride / 2, (count + 1) / 2, columns);
    }
  }
}

constinit thread_local double new_tile_flops = 0;
constinit thread_local bool brgemm_in_use = false;

namespace {

std::atomic<double> all_tile_flops = 0;
std::atomic<int64_t> all_scratch_bytes = 0;

/// Memory that only grows.
class Scratch {
 public:
  ~Scratch() { release(); }

  float* of(int64_t count) {
    if (size_ < count) {
      release();
      memory_ = static_cast<float*>(::operator new(bytes(count), line));
      size_ = count;
      all_scratch_bytes += static_cast<int64_t>(bytes(count));
    }
    return memory_;
  }

  void release() {
    ::operator delete(memory_, line);
    all_scratch_bytes -= static_cast<int64_t>(bytes(size_));
    memory_ = nullptr;
    size_ = 0;
  }

 private:
  static constexpr std::align_val_t line{64};
  static size_t bytes(int64_t count) { return static_cast<size_t>(count) * sizeof(float); }

  float* memory_ = nullptr;
  int64_t size_ = 0;
};

constexpr int scratch_slots = 13;
thread_local Scratch scratches[scratch_slots];

}  // namespace

float* scratch(int slot, int64_t count) {
  TORCH_INTERNAL_ASSERT(slot < scratch_slots);
  return scratches[slot].of(count);
}

int64_t scratch_bytes() { return all_scratch_bytes; }

void release_scratch() {
  for (auto& one : scratches) one.release();
}

double tile_flops() { return all_tile_flops; }

void count_tile_flops() { all_tile_flops += std::exchange(new_tile_flops, 0.0); }

template void panels_from_rows(const float*, int64_t, int64_t, int64_t, float*);
template void panels_from_rows(const float*, int64_t, int64_t, int64_t, at::BFloat16*);
template void panels_from_rows(const at::BFloat16*, int64_t, int64_t, int64_t, at::BFloat16*);
template void panels_from_columns(const float*, int64_t, int64_t, int64_t, float*);
template void panels_from_columns(const float*, int64_t, int64_t, int64_t, at::BFloat16*);
template void panels_from_columns(const at::BFloat16*, int64_t, int64_t, int64_t, at::BFloat16*);
template void transpose_rows(const float*, int64_t, int64_t, int64_t, float*, int64_t);
template void transpose_rows(const at::BFloat16*, int64_t, int64_t, int64_t, at::BFloat16*, int64_t);

}  // namespace attnscale
