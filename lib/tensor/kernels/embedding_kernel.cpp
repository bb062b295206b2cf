#include "tensor/kernels/embedding_kernel.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include "tensor/empty.h"
#include "tensor/graph_node.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/product_nodes.h"
#include "tensor/kernels/tiles.h"

namespace attnscale {
namespace {

constexpr int64_t tokens_in_block = 64;

class EmbeddingKernel : public GraphNode<EmbeddingKernel> {
 public:
  Tensor forward(const Tensor& token, const Tensor& position, const Tensor& tokens, int64_t offset) {
    RECORD_FUNCTION("attnscale::embedding", std::vector<c10::IValue>());
    const Tensor table = token.contiguous(), places = dense(position), numbers = tokens.contiguous();
    vocabulary_ = token.size(0);
    width_ = token.size(1);
    context_ = position.defined() ? position.size(0) : 0;
    offset_ = offset;
    const int64_t length = tokens.size(1);
    const auto* number = numbers.const_data_ptr<int64_t>();
    const auto* rows = table.const_data_ptr<float>();
    const auto* place = places.defined() ? places.const_data_ptr<float>() + offset * width_ : nullptr;
    Tensor out = empty_on_cpu({tokens.size(0), length, width_}, at::kFloat);
    auto* row = out.mutable_data_ptr<float>();
    by_row_blocks(tokens.numel(), tokens_in_block, [&](int64_t first, int64_t count) {
      for (int64_t i = first; i < first + count; ++i) {
        TORCH_CHECK_INDEX(number[i] >= 0 && number[i] < vocabulary_, "embedding_kernel: token ", number[i],
                          ", expected one of [0, ", vocabulary_, ")");
        std::copy_n(rows + number[i] * width_, width_, row + i * width_);
        if (place) loops().add(place + i % length * width_, row + i * width_, width_);
      }
    });
    keep({numbers});
    return out;
  }

  variable_list backward(const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::embedding_backward", std::vector<c10::IValue>());
    refuse_second_derivative("embedding_kernel");
    const Tensor numbers = kept()[0], gradient = gradients[0].contiguous();
    const int64_t length = numbers.size(1);
    const auto* number = numbers.const_data_ptr<int64_t>();
    const auto* row = gradient.const_data_ptr<float>();
    const Tensor of_token = wants(0) ? zeros_on_cpu({vocabulary_, width_}, at::kFloat) : Tensor();
    const Tensor of_position = wants(1) ? zeros_on_cpu({context_, width_}, at::kFloat) : Tensor();
    auto* rows = of_token.defined() ? of_token.mutable_data_ptr<float>() : nullptr;
    auto* place = of_position.defined() ? of_position.mutable_data_ptr<float>() + offset_ * width_ : nullptr;
    // Each thread has columns of its own: rows of both tables come more than once.
    at::parallel_for(0, width_, fewest_columns, [&](int64_t first, int64_t end) {
      for (int64_t i = 0; i < numbers.numel(); ++i) {
        if (rows) loops().add(row + i * width_ + first, rows + number[i] * width_ + first, end - first);
        if (place) loops().add(row + i * width_ + first, place + i % length * width_ + first, end - first);
      }
    });
    return {of_token, of_position, Tensor()};
  }

 private:
  static constexpr int64_t fewest_columns = 64;

  int64_t vocabulary_ = 0, width_ = 0, context_ = 0, offset_ = 0;
};

bool is_table(const Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat && x.numel() > 0; }

}  // namespace

bool embedding_has_kernel(const Tensor& token, const Tensor& position, const Tensor& tokens) {
  return has_kernels(at::kFloat) && is_table(token) && (!position.defined() || is_table(position)) && tokens.is_cpu() &&
         tokens.scalar_type() == at::kLong && tokens.dim() == 2;
}

Tensor embedding_kernel(const Tensor& token, const Tensor& position, const Tensor& tokens, int64_t offset) {
  TORCH_CHECK(token.dim() == 2 && tokens.dim() == 2 && tokens.scalar_type() == at::kLong && tokens.is_cpu(),
              "embedding_kernel: token ", token.sizes(), " and tokens ", tokens.sizes(), " of ", tokens.scalar_type(),
              ", expected [V, M] and int64 [B, T], both on the CPU");
  if (position.defined())
    TORCH_CHECK(position.dim() == 2 && position.size(1) == token.size(1) && offset >= 0 &&
                    offset + tokens.size(1) <= position.size(0),
                "embedding_kernel: position ", position.sizes(), ", expected [C, ", token.size(1), "] of at least ",
                offset, " + ", tokens.size(1), " rows");
  return EmbeddingKernel::apply(token, position, tokens, offset);
}

}  // namespace attnscale
