#include "tensor/kernels/norm_kernel.h"

#include <ATen/record_function.h>

#include "tensor/graph_node.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/norm_rows.h"
#include "tensor/kernels/product_nodes.h"
#include "tensor/kernels/row_functions.h"

namespace attnscale {
namespace {

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
  Tensor sum = empty_on_cpu({width}, at::kFloat);
  auto* total = sum.mutable_data_ptr<float>();
  std::copy_n(part, width, total);
  for (int64_t block = 1; block < parts.size(0); ++block) loops().add(part + block * width, total, width);
  return sum;
}

class NormKernel : public GraphNode<NormKernel> {
 public:
  static constexpr bool sees_missing_gradients = true;

  variable_list forward(const Tensor& given, const Tensor& added, const Tensor& weight, const Tensor& bias,
                        const NormKind& kind, at::ScalarType out_type) {
    RECORD_FUNCTION("attnscale::norm", std::vector<c10::IValue>());
    const bool adds = added.defined();
    const Tensor x = given.contiguous(), other = dense(added), gain = weight.contiguous();
    const Tensor shift = dense(bias);
    const int64_t width = x.size(-1), rows = x.numel() / width;
    const Tensor stream = adds ? empty_on_cpu(x.sizes(), at::kFloat) : x;
    const Tensor norm = empty_on_cpu(x.sizes(), out_type);
    const Tensor moments = empty_on_cpu({rows, 2}, at::kFloat);
    by_row_blocks(rows, row_block, [&](int64_t first, int64_t count) {
      row_functions()->norm({.count = count,
                             .width = width,
                             .x = x.const_data_ptr<float>() + first * width,
                             .sum = adds ? rows_to_fill<float>(stream, first) : nullptr,
                             .added = rows_to_read<float>(other, first),
                             .added16 = bits(rows_to_read<at::BFloat16>(other, first)),
                             .weight = gain.const_data_ptr<float>(),
                             .bias = or_null(shift),
                             .epsilon = static_cast<float>(kind.epsilon),
                             .centred = kind.centred,
                             .moments = moments.mutable_data_ptr<float>() + 2 * first,
                             .out = rows_to_fill<float>(norm, first),
                             .out16 = bits(rows_to_fill<at::BFloat16>(norm, first))});
    });
    keep({adds ? stream : given, moments, weight});
    centred_ = kind.centred;
    with_bias_ = bias.defined();
    if (adds) added_type_ = added.scalar_type();
    if (!adds) return {norm};
    return {stream, norm};
  }

  variable_list backward(const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::norm_backward", std::vector<c10::IValue>());
    refuse_second_derivative("norm_kernel");
    const auto saved = kept();
    const Tensor row_source = saved[0].contiguous(), gain = saved[2].contiguous();
    const Tensor& moments = saved[1];
    const bool with_added = added_type_.has_value();
    const bool in_place = with_added && is_only_here(gradients[0]) && gradients[0].is_contiguous();
    const Tensor of_stream = with_added ? dense(gradients[0]) : Tensor();
    const Tensor& of_norm_given = gradients[with_added ? 1 : 0];
    if (!of_norm_given.defined())  // the norm was for nobody
      return {of_stream, of_stream, Tensor(), Tensor()};
    const Tensor of_norm = of_norm_given.contiguous();
    const int64_t width = row_source.size(-1), rows = moments.size(0);
    const int64_t blocks = (rows + row_block - 1) / row_block;
    const Tensor of_x = in_place ? of_stream : empty_on_cpu(row_source.sizes(), at::kFloat);
    Tensor of_added;
    if (with_added) of_added = *added_type_ == at::kFloat ? of_x : empty_on_cpu(of_x.sizes(), *added_type_);
    // Of each block of rows; added up in order, whatever threads there are.
    const Tensor of_weight = zeros_on_cpu({blocks, width}, at::kFloat);
    const Tensor of_bias = with_bias_ ? zeros_on_cpu({blocks, width}, at::kFloat) : Tensor();
    const Tensor narrow = with_added && of_added.scalar_type() != at::kFloat ? of_added : Tensor();
    by_row_blocks(rows, row_block, [&](int64_t first, int64_t count) {
      const int64_t block = first / row_block;
      row_functions()->norm_backward({.count = count,
                                      .width = width,
                                      .x = row_source.const_data_ptr<float>() + first * width,
                                      .moments = moments.const_data_ptr<float>() + 2 * first,
                                      .weight = gain.const_data_ptr<float>(),
                                      .centred = centred_,
                                      .gradient = rows_to_read<float>(of_norm, first),
                                      .gradient16 = bits(rows_to_read<at::BFloat16>(of_norm, first)),
                                      .beside = rows_to_read<float>(of_stream, first),
                                      .of_x = rows_to_fill<float>(of_x, first),
                                      .of_x16 = bits(rows_to_fill<at::BFloat16>(narrow, first)),
                                      .of_weight = rows_to_fill<float>(of_weight, block),
                                      .of_bias = rows_to_fill<float>(of_bias, block)});
    });
    return {of_x, of_added, sum_of_blocks(of_weight), sum_of_blocks(of_bias)};
  }

 private:
  bool centred_ = false, with_bias_ = false;
  std::optional<at::ScalarType> added_type_;  ///< none where nothing is added
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
  const auto results = NormKernel::apply(x, added, weight, bias, kind, out);
  if (!added.defined()) return {x, results[0]};
  return {results[0], results[1]};
}

}  // namespace attnscale
