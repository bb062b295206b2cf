#include "tensor/kernels/linear_kernel.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "tensor/flop_counter.h"
#include "tensor/full_precision.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/product_nodes.h"
#include "tensor/precision.h"

namespace attnscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The gradient of x from that of what it was multiplied with, in x's dtype and shape.
template <class T>
Tensor input_gradient(const Tensor& gradient, const Tensor& weight, at::IntArrayRef shape, at::ScalarType type) {
  const Tensor panels = panels_of_rows<T, float>(weight.contiguous(), weight.size(1));
  Tensor out = at::empty(shape, gradient.options().dtype(type));
  if (type == at::kFloat) matrix_product<T, float>(gradient, weight.size(0), panels, {}, out);
  else matrix_product<T, at::BFloat16>(gradient, weight.size(0), panels, {}, out);
  return out;
}

class LinearKernel : public torch::autograd::Function<LinearKernel> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight,
                        const std::optional<Tensor>& bias, at::ScalarType dtype) {
    RECORD_FUNCTION("attnscale::linear", std::vector<c10::IValue>());
    return with_type(dtype, [&]<class T>() {
      const Tensor rows = rows_of<T>(x);
      context->save_for_backward({rows, weight});
      context->saved_data["shape"] = x.sizes();
      context->saved_data["type"] = x.scalar_type();
      context->saved_data["dtype"] = dtype;
      context->saved_data["wanted"] = wanted_of({x, weight, or_undefined(bias)});
      count_flops("attnscale::linear", product_flops(rows, weight));
      Tensor out = at::empty(shape_with_last(x, weight.size(0)), rows.options());
      matrix_product<T, T>(rows, weight.size(1), panels_of_transpose<T>(weight), bias ? bias->contiguous() : Tensor(),
                           out);
      return out;
    });
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::linear_backward", std::vector<c10::IValue>());
    refuse_second_derivative("linear_kernel");
    const auto saved = context->get_saved_variables();
    return with_type(context->saved_data["dtype"].toScalarType(), [&]<class T>() -> variable_list {
      const Tensor gradient = rows_of<T>(gradients[0]);
      const Tensor &rows = saved[0], &weight = saved[1];
      const int64_t wanted = context->saved_data["wanted"].toInt();
      Tensor of_x, of_weight, of_bias;
      if ((wanted & 1) != 0)
        of_x = input_gradient<T>(gradient, weight, context->saved_data["shape"].toIntVector(),
                                 context->saved_data["type"].toScalarType());
      if ((wanted & 2) != 0) of_weight = transposed_product<T>(gradient, weight.size(0), rows, weight.size(1));
      if ((wanted & 4) != 0) of_bias = row_sums<T>(gradient, weight.size(0));
      count_flops("attnscale::linear_backward", (of_x.defined() + of_weight.defined()) * product_flops(rows, weight));
      return {of_x, of_weight, of_bias, Tensor()};
    });
  }
};

}  // namespace

std::optional<at::ScalarType> product_dtype(const Tensor& x, const Tensor& weight) {
  if (!x.is_cpu() || weight.scalar_type() != at::kFloat || x.numel() == 0 || weight.numel() == 0 || !weight.is_cpu())
    return std::nullopt;
  auto dtype = at::kFloat;
  if (autocast_applies())
    if (const auto mixed = mixed_dtype(at::kCPU)) dtype = *mixed;
  if (!has_kernels(dtype)) return std::nullopt;
  const auto given = x.scalar_type();
  if (given != at::kFloat && given != dtype) return std::nullopt;
  return dtype;
}

Tensor linear_kernel(const Tensor& x, const Tensor& weight, const Tensor& bias, at::ScalarType dtype) {
  TORCH_CHECK(x.numel() > 0 && x.dim() > 0 && weight.dim() == 2 && weight.size(0) > 0 && x.size(-1) == weight.size(1),
              "linear_kernel: x ", x.sizes(), " and weight ", weight.sizes(),
              ", expected [.., K] and [N, K], none of them empty");
  check_vector("linear_kernel: bias", bias, weight.size(0));
  return LinearKernel::apply(x, weight, if_defined(bias), dtype);
}

}  // namespace attnscale
