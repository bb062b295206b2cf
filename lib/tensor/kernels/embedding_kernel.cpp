#include "tensor/kernels/embedding_kernel.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/vector_functions.h"

namespace attnscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class EmbeddingKernel : public torch::autograd::Function<EmbeddingKernel> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& tokens, const Tensor& token,
                        const std::optional<Tensor>& position, double scale, int64_t offset) {
    RECORD_FUNCTION("attnscale::embedding", std::vector<c10::IValue>());
    const Tensor which = tokens.contiguous(), rows = token.contiguous();
    const Tensor places = position ? position->contiguous() : Tensor();
    const int64_t length = tokens.size(1), width = token.size(1), vocabulary = token.size(0);
    const auto* ids = which.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < which.numel(); ++i)
      TORCH_CHECK_INDEX(ids[i] >= 0 && ids[i] < vocabulary, "embedding_kernel: token ", ids[i], ", expected 0 to ",
                        vocabulary - 1);
    Tensor out = at::empty({tokens.size(0), length, width}, token.options());
    const auto *from = rows.const_data_ptr<float>(),
               *at_position = places.defined() ? places.const_data_ptr<float>() + offset * width : nullptr;
    auto* to = out.mutable_data_ptr<float>();
    const auto& loops = *vector_functions();
    at::parallel_for(0, which.numel(), rows_of_task(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* row = to + i * width;
        const float* own = from + ids[i] * width;
        if (at_position) {
          std::copy_n(at_position + i % length * width, width, row);
          loops.add_scaled(own, static_cast<float>(scale), row, width);
        } else {
          std::copy_n(own, width, row);
          if (scale != 1) loops.scale(row, static_cast<float>(scale), width);
        }
      }
    });
    context->save_for_backward({which});
    auto& data = context->saved_data;
    data["table"] = token.sizes();
    data["positions"] = position ? position->size(0) : int64_t{0};
    data["scale"] = scale;
    data["offset"] = offset;
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::embedding_backward", std::vector<c10::IValue>());
    refuse_second_derivative("embedding_kernel");
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const Tensor gradient = gradients[0].contiguous();
    const int64_t length = gradient.size(1), width = gradient.size(2), count = gradient.size(0) * length,
                  positions = data["positions"].toInt(), offset = data["offset"].toInt();
    const Tensor of_token = at::zeros(data["table"].toIntVector(), gradient.options());
    const Tensor of_position = positions > 0 ? at::zeros({positions, width}, gradient.options()) : Tensor();
    const auto* ids = saved[0].const_data_ptr<int64_t>();
    const auto* from = gradient.const_data_ptr<float>();
    auto *to = of_token.mutable_data_ptr<float>(),
         *to_position = positions > 0 ? of_position.mutable_data_ptr<float>() + offset * width : nullptr;
    const auto scale = static_cast<float>(data["scale"].toDouble());
    const auto& loops = *vector_functions();
    // Threads share the columns, so that each sum is made by one.
    constexpr int64_t piece = 64;
    at::parallel_for(0, at::divup(width, piece), at::divup(rows_of_task(piece), count),
                     [&](int64_t begin, int64_t end) {
                       const int64_t first = begin * piece, columns = std::min(end * piece, width) - first;
                       for (int64_t i = 0; i < count; ++i) {
                         const float* row = from + i * width + first;
                         loops.add_scaled(row, scale, to + ids[i] * width + first, columns);
                         if (to_position) loops.add(row, to_position + i % length * width + first, columns);
                       }
                     });
    return {Tensor(), of_token, of_position, Tensor(), Tensor()};
  }

 private:
  /// As many as are worth a thread.
  static int64_t rows_of_task(int64_t width) {
    constexpr int64_t numbers = 32768;
    return std::max<int64_t>(1, numbers / width);
  }
};

bool is_table(const Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 2; }

}  // namespace

bool embedding_has_kernel(const Tensor& tokens, const Tensor& token, const Tensor& position) {
  return has_kernels(at::kFloat) && tokens.is_cpu() && tokens.scalar_type() == at::kLong && tokens.dim() == 2 &&
         tokens.numel() > 0 && is_table(token) && token.size(1) > 0 &&
         (!position.defined() || (is_table(position) && position.size(1) == token.size(1)));
}

Tensor embedding_kernel(const Tensor& tokens, const Tensor& token, double scale, const Tensor& position,
                        int64_t offset) {
  TORCH_CHECK(!position.defined() || (offset >= 0 && offset + tokens.size(1) <= position.size(0)),
              "embedding_kernel: positions ", offset, " to ", offset + tokens.size(1) - 1, ", expected 0 to ",
              position.defined() ? position.size(0) - 1 : 0);
  return EmbeddingKernel::apply(tokens, token, position.defined() ? std::optional(position) : std::nullopt, scale,
                                offset);
}

}  // namespace attnscale
