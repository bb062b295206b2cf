#include "tensor/kernels/rotary_kernel.h"

#include <algorithm>

#include <ATen/record_function.h>

#include "tensor/empty.h"
#include "tensor/graph_node.h"
#include "tensor/kernels/product_nodes.h"
#include "tensor/kernels/row_functions.h"
#include "tensor/kernels/tiles.h"

namespace attnscale {
namespace {

void turn_heads(const float* in, int64_t stride, int64_t heads, const float* cosine, const float* sine, int64_t half,
                float* out, int64_t out_stride) {
  row_functions()->turn(in, stride, heads, cosine, sine, half, out, out_stride);
}
void turn_heads(const at::BFloat16* in, int64_t stride, int64_t heads, const float* cosine, const float* sine,
                int64_t half, at::BFloat16* out, int64_t out_stride) {
  row_functions()->turn16(bits(in), stride, heads, cosine, sine, half, bits(out), out_stride);
}

class RotaryKernel : public GraphNode<RotaryKernel> {
 public:
  /// @param back  turns the other way
  Tensor forward(const Tensor& x, const Tensor& cosine, const Tensor& sine, bool back) {
    RECORD_FUNCTION("attnscale::rotary", std::vector<c10::IValue>());
    back_ = back;
    keep({cosine, sine});
    Tensor out = empty_on_cpu(x.sizes(), x.scalar_type());
    with_type(x.scalar_type(), [&]<class T>() { fill<T>(x, cosine, sine, out); });
    return out;
  }

  /// The transpose of a rotation, times a length, is the rotation back, times that length.
  variable_list backward(const variable_list& gradients) {
    const auto angles = kept();
    return {apply(gradients[0], angles[0], angles[1], !back_), Tensor(), Tensor()};
  }

 private:
  bool back_ = false;

  template <class T>
  void fill(const Tensor& given, const Tensor& cosine, const Tensor& sine, Tensor& out) const {
    const Tensor x = given.stride(3) == 1 ? given : given.contiguous(), c = cosine.contiguous(), s = sine.contiguous();
    const int64_t positions = x.size(1), heads = x.size(2), width = x.size(3), half = c.size(1);
    by_row_blocks(x.size(0) * positions, row_block, [&](int64_t first, int64_t count) {
      float *cosines = scratch(0, half), *sines = scratch(1, half);
      for (int64_t row = first; row < first + count; ++row) {
        const int64_t position = row % positions;
        const T* in = x.const_data_ptr<T>() + row / positions * x.stride(0) + position * x.stride(1);
        T* to = out.mutable_data_ptr<T>() + row * heads * width;
        convert(c.const_data_ptr<T>() + position * half, cosines, half);
        convert(s.const_data_ptr<T>() + position * half, sines, half);
        if (back_)
          for (int64_t i = 0; i < half; ++i) sines[i] = -sines[i];
        turn_heads(in, x.stride(2), heads, cosines, sines, half, to, width);
        if (2 * half < width)
          for (int64_t head = 0; head < heads; ++head)
            std::copy_n(in + head * x.stride(2) + 2 * half, width - 2 * half, to + head * width + 2 * half);
      }
    });
  }
};

}  // namespace

Tensor rotary_kernel(const Tensor& x, const Tensor& cosine, const Tensor& sine) {
  const bool fits = x.dim() == 4 && cosine.dim() == 2 && sine.sizes() == cosine.sizes() &&
                    cosine.size(0) == x.size(1) && 2 * cosine.size(1) <= x.size(3) &&
                    cosine.scalar_type() == x.scalar_type() && sine.scalar_type() == x.scalar_type();
  TORCH_CHECK(fits, "rotary_kernel: x ", x.sizes(), ", cosine ", cosine.sizes(), " and sine ", sine.sizes(),
              ", expected [B, T, N, W] and twice [T, R/2] with R at most W, all of one dtype");
  return RotaryKernel::apply(x, cosine, sine, false);
}

}  // namespace attnscale
