#include "tensor/kernels/norm_kernel.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/norm_rows.h"
#include "tensor/kernels/row_functions.h"

namespace attnscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const float* or_null(const Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr; }

/// Where a matrix's rows from `first` on lie; null if it is undefined or of another dtype.
template <class T>
const T* rows_to_read(const Tensor& matrix, int64_t first) {
  const bool there = matrix.defined() && matrix.scalar_type() == type_of<T>;
  return there ? matrix.const_data_ptr<T>() + first * matrix.size(-1) : nullptr;
}
template <class T>
T* rows_to_fill(const Tensor& matrix, int64_t first) {
  const bool there = matrix.defined() && matrix.scalar_type() == type_of<T>;
  return there ? matrix.mutable_data_ptr<T>() + first * matrix.size(-1) : nullptr;
}

/// @param parts  [blocks, M] or undefined @return [M]
Tensor sum_of_blocks(const Tensor& parts) {
  if (!parts.defined()) return parts;
  const int64_t width = parts.size(1);
  const auto* part = parts.const_data_ptr<float>();
  Tensor sum = at::empty({width}, parts.options());
  auto* total = sum.mutable_data_ptr<float>();
  std::copy_n(part, width, total);
  for (int64_t block = 1; block < parts.size(0); ++block) vector_functions()->add(part + block * width, total, width);
  return sum;
}

class NormKernel : public torch::autograd::Function<NormKernel> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& given, const std::optional<Tensor>& added,
                               const Tensor& weight, const std::optional<Tensor>& bias, bool centred, double epsilon,
                               at::ScalarType out_type) {
    RECORD_FUNCTION("attnscale::norm", std::vector<c10::IValue>());
    const Tensor x = given.contiguous(), other = added ? added->contiguous() : Tensor(), gain = weight.contiguous();
    const Tensor shift = bias ? bias->contiguous() : Tensor();
    const int64_t width = x.size(-1), rows = x.numel() / width;
    const Tensor stream = added ? at::empty(x.sizes(), x.options()) : x;
    const Tensor norm = at::empty(x.sizes(), x.options().dtype(out_type));
    const Tensor moments = at::empty({rows, 2}, x.options());
    by_row_blocks(rows, row_block, [&](int64_t first, int64_t count) {
      row_functions()->norm({.count = count,
                             .width = width,
                             .x = x.const_data_ptr<float>() + first * width,
                             .sum = added ? rows_to_fill<float>(stream, first) : nullptr,
                             .added = rows_to_read<float>(other, first),
                             .added16 = bits(rows_to_read<at::BFloat16>(other, first)),
                             .weight = gain.const_data_ptr<float>(),
                             .bias = or_null(shift),
                             .epsilon = static_cast<float>(epsilon),
                             .centred = centred,
                             .moments = moments.mutable_data_ptr<float>() + 2 * first,
                             .out = rows_to_fill<float>(norm, first),
                             .out16 = bits(rows_to_fill<at::BFloat16>(norm, first))});
    });
    context->set_materialize_grads(false);
    context->save_for_backward({added ? stream : given, moments, weight});
    auto& data = context->saved_data;
    data["centred"] = centred;
    data["with_bias"] = bias.has_value();
    data["of_added"] = added ? std::optional(added->scalar_type()) : std::nullopt;
    if (!added) return {norm};
    return {stream, norm};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::norm_backward", std::vector<c10::IValue>());
    refuse_second_derivative("norm_kernel");
    const auto saved = context->get_saved_variables();
    const Tensor row_source = saved[0].contiguous(), gain = saved[2].contiguous();
    const Tensor& moments = saved[1];
    auto& data = context->saved_data;
    const bool centred = data["centred"].toBool(), with_added = !data["of_added"].isNone();
    const Tensor of_stream = with_added && gradients[0].defined() ? gradients[0].contiguous() : Tensor();
    const Tensor& of_norm_given = gradients[with_added ? 1 : 0];
    if (!of_norm_given.defined())  // the norm was for nobody
      return {of_stream, of_stream, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    const Tensor of_norm = of_norm_given.contiguous();
    const int64_t width = row_source.size(-1), rows = moments.size(0);
    const int64_t blocks = (rows + row_block - 1) / row_block;
    const Tensor of_x = at::empty(row_source.sizes(), row_source.options());
    Tensor of_added;
    if (with_added) {
      const auto type = data["of_added"].toScalarType();
      of_added = type == at::kFloat ? of_x : at::empty(of_x.sizes(), of_x.options().dtype(type));
    }
    // Of each block of rows; added up in order, whatever threads there are.
    const Tensor of_weight = at::zeros({blocks, width}, of_x.options());
    const Tensor of_bias = data["with_bias"].toBool() ? at::zeros({blocks, width}, of_x.options()) : Tensor();
    const Tensor narrow = with_added && of_added.scalar_type() != at::kFloat ? of_added : Tensor();
    by_row_blocks(rows, row_block, [&](int64_t first, int64_t count) {
      const int64_t block = first / row_block;
      row_functions()->norm_backward({.count = count,
                                      .width = width,
                                      .x = row_source.const_data_ptr<float>() + first * width,
                                      .moments = moments.const_data_ptr<float>() + 2 * first,
                                      .weight = gain.const_data_ptr<float>(),
                                      .centred = centred,
                                      .gradient = rows_to_read<float>(of_norm, first),
                                      .gradient16 = bits(rows_to_read<at::BFloat16>(of_norm, first)),
                                      .beside = rows_to_read<float>(of_stream, first),
                                      .of_x = rows_to_fill<float>(of_x, first),
                                      .of_x16 = bits(rows_to_fill<at::BFloat16>(narrow, first)),
                                      .of_weight = rows_to_fill<float>(of_weight, block),
                                      .of_bias = rows_to_fill<float>(of_bias, block)});
    });
    return {of_x, of_added, sum_of_blocks(of_weight), sum_of_blocks(of_bias), Tensor(), Tensor(), Tensor()};
  }
};

bool is_vector(const Tensor& weight, int64_t width) {
  return weight.scalar_type() == at::kFloat && weight.is_cpu() && weight.dim() == 1 && weight.size(0) == width;
}

}  // namespace

bool norm_has_kernel(const Tensor& x, const Tensor& added, const Tensor& weight) {
  if (!has_kernels(at::kFloat) || !x.is_cpu() || x.scalar_type() != at::kFloat || x.numel() == 0) return false;
  if (!is_vector(weight, x.size(-1))) return false;
  if (!added.defined()) return true;
  const auto type = added.scalar_type();
  return added.is_cpu() && added.sizes() == x.sizes() && (type == at::kFloat || type == at::kBFloat16);
}

Normed norm_kernel(const Tensor& x, const Tensor& added, const Tensor& weight, const Tensor& bias, const NormKind& kind,
                   at::ScalarType out) {
  TORCH_CHECK(x.dim() > 0 && x.numel() > 0, "norm_kernel: x ", x.sizes(), ", expected [.., M], not empty");
  check_vector("norm_kernel: weight", weight, x.size(-1));
  check_vector("norm_kernel: bias", bias, x.size(-1));
  TORCH_CHECK(!added.defined() || added.sizes() == x.sizes(), "norm_kernel: added ", added.sizes(), ", expected ",
              x.sizes());
  const auto results =
      NormKernel::apply(x, added.defined() ? std::optional(added) : std::nullopt, weight,
                        bias.defined() ? std::optional(bias) : std::nullopt, kind.centred, kind.epsilon, out);
  if (!added.defined()) return {x, results[0]};
  return {results[0], results[1]};
}

}  // namespace attnscale
