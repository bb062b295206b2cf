#include "tensor/kernels/linear_kernel.h"

#include <ATen/record_function.h>

#include "tensor/flop_counter.h"
#include "tensor/full_precision.h"
#include "tensor/graph_node.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/product_nodes.h"
#include "tensor/precision.h"

namespace attnscale {
namespace {

/// The gradient of x from that of what it was multiplied with, in x's dtype and shape.
template <class T>
Tensor input_gradient(const Tensor& gradient, const Tensor& weight, at::IntArrayRef shape, at::ScalarType type) {
  const Tensor panels = panels_of_rows<T, float>(weight.contiguous(), weight.size(1));
  Tensor out = empty_on_cpu(shape, type);
  if (type == at::kFloat) matrix_product<T, float>(gradient, weight.size(0), panels, {}, out);
  else matrix_product<T, at::BFloat16>(gradient, weight.size(0), panels, {}, out);
  return out;
}

class LinearKernel : public GraphNode<LinearKernel> {
 public:
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias, at::ScalarType dtype) {
    RECORD_FUNCTION("attnscale::linear", std::vector<c10::IValue>());
    dtype_ = dtype;
    type_ = x.scalar_type();
    shape_ = x.sizes();
    return with_type(dtype, [&]<class T>() {
      const Tensor rows = rows_of<T>(x);
      keep({rows, weight});
      count_flops("attnscale::linear", product_flops(rows, weight));
      Tensor out = empty_on_cpu(shape_with_last(x, weight.size(0)), dtype);
      matrix_product<T, T>(rows, weight.size(1), panels_of_transpose<T>(weight), dense(bias), out);
      return out;
    });
  }

  variable_list backward(const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::linear_backward", std::vector<c10::IValue>());
    refuse_second_derivative("linear_kernel");
    const auto saved = kept();
    return with_type(dtype_, [&]<class T>() -> variable_list {
      const Tensor gradient = rows_of<T>(gradients[0]);
      const Tensor &rows = saved[0], &weight = saved[1];
      Tensor of_x, of_weight, of_bias;
      if (wants(0)) of_x = input_gradient<T>(gradient, weight, shape_, type_);
      if (wants(1)) of_weight = transposed_product<T>(gradient, weight.size(0), rows, weight.size(1));
      if (wants(2)) of_bias = row_sums<T>(gradient, weight.size(0));
      count_flops("attnscale::linear_backward", (of_x.defined() + of_weight.defined()) * product_flops(rows, weight));
      return {of_x, of_weight, of_bias};
    });
  }

 private:
  at::ScalarType dtype_ = at::kFloat, type_ = at::kFloat;  ///< of the products, of x
  at::DimVector shape_;                                    ///< of x
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
  return LinearKernel::apply(x, weight, bias, dtype);
}

}  // namespace attnscale
