#include "tensor/kernels/dropout_kernel.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/record_function.h>

#include "tensor/empty.h"
#include "tensor/graph_node.h"
#include "tensor/kernels/product_nodes.h"
#include "tensor/kernels/row_functions.h"
#include "tensor/kernels/tiles.h"

namespace attnscale {
namespace {

void drop_numbers(const Drops& drops, int64_t first, const float* in, float* out, int64_t count) {
  row_functions()->drop(drops, static_cast<uint64_t>(first), in, out, count);
}
void drop_numbers(const Drops& drops, int64_t first, const at::BFloat16* in, at::BFloat16* out, int64_t count) {
  row_functions()->drop16(drops, static_cast<uint64_t>(first), bits(in), bits(out), count);
}

class DropoutKernel : public GraphNode<DropoutKernel> {
 public:
  Tensor forward(const Tensor& x, const Drops& drops) {
    RECORD_FUNCTION("attnscale::dropout", std::vector<c10::IValue>());
    drops_ = drops;
    const Tensor in = x.contiguous();
    Tensor out = empty_on_cpu(x.sizes(), x.scalar_type());
    with_type(x.scalar_type(), [&]<class T>() {
      constexpr int64_t block = 64 * 64;  // numbers; whole ones of the mask's
      by_row_blocks(in.numel(), block, [&](int64_t first, int64_t count) {
        drop_numbers(drops, first, in.const_data_ptr<T>() + first, out.mutable_data_ptr<T>() + first, count);
      });
    });
    return out;
  }

  variable_list backward(const variable_list& gradients) { return {apply(gradients[0], drops_)}; }

 private:
  Drops drops_ = {};
};

uint64_t drawn_key() {
  auto generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  return at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
}

}  // namespace

Tensor dropout_kernel(const Tensor& x, double drop) {
  TORCH_CHECK(drop > 0 && drop < 1, "dropout_kernel: drop ", drop, ", expected a number between 0 and 1");
  constexpr double words = 4294967296.0;  // 2^32
  const double kept = std::min(std::round((1 - drop) * words), words - 1);
  return DropoutKernel::apply(x, Drops{drawn_key(), static_cast<uint32_t>(kept), static_cast<float>(1 / (1 - drop))});
}

}  // namespace attnscale
