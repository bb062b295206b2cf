#include "tensor/kernels/linear_kernel.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "tensor/flop_counter.h"
#include "tensor/full_precision.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/precision.h"

namespace attnscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor or_undefined(const std::optional<Tensor>& tensor) { return tensor.value_or(Tensor()); }
std::optional<Tensor> if_defined(const Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

/// Runs a template for float or at::BFloat16.
template <class Work>
auto with_type(at::ScalarType dtype, const Work& work) {
  return dtype == at::kBFloat16 ? work.template operator()<at::BFloat16>() : work.template operator()<float>();
}

std::vector<int64_t> shape_with_last(const Tensor& x, int64_t last) {
  auto shape = x.sizes().vec();
  shape.back() = last;
  return shape;
}

/// The gradient of x from that of what it was multiplied with, in x's dtype and shape.
template <class T>
Tensor input_gradient(const Tensor& gradient, const Tensor& weight, at::IntArrayRef shape, at::ScalarType type) {
  const Tensor panels = panels_of_rows<T, float>(weight.contiguous(), weight.size(1));
  Tensor out = at::empty({gradient.size(0), weight.size(1)}, gradient.options().dtype(type));
  if (type == at::kFloat) matrix_product<T, float>(gradient, weight.size(0), panels, {}, out);
  else matrix_product<T, at::BFloat16>(gradient, weight.size(0), panels, {}, out);
  return out.view(shape);
}

/// Which inputs want a gradient, one bit each. (AutogradContext::needs_input_grad leaves out those that are undefined.)
int64_t wanted_of(std::initializer_list<Tensor> inputs) {
  int64_t result = 0, bit = 1;
  for (const auto& input : inputs) {
    if (input.defined() && input.requires_grad()) result |= bit;
    bit *= 2;
  }
  return result;
}

double product_flops(const Tensor& rows, const Tensor& weight) {
  return 2 * static_cast<double>(rows.size(0)) * static_cast<double>(weight.numel());
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
      Tensor out = at::empty({rows.size(0), weight.size(0)}, rows.options());
      matrix_product<T, T>(rows, weight.size(1), panels_of_transpose<T>(weight), or_undefined(bias), out);
      return out.view(shape_with_last(x, weight.size(0)));
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

/// What is inside a feed-forward network: how many columns, and how they become those that `down` reads.
struct Inside {
  Activation activation;
  bool gated;
  int64_t width;  ///< F
  int64_t columns() const { return gated ? 2 * width : width; }

  /// @param in  [columns] @param out  [F]
  void activate(const float* in, float* out) const {
    vector_functions()->activate(activation, in, out, width);
    if (!gated) return;
    for (int64_t i = 0; i < width; ++i) out[i] *= in[width + i];
  }

  /// @param in  [columns] @param of_out  gradient, [F]; destroyed @param of_in  gradient, [columns]
  void activate_backward(const float* in, float* of_out, float* of_in) const {
    if (gated) {
      vector_functions()->activate(activation, in, of_in + width, width);
      for (int64_t i = 0; i < width; ++i) of_in[width + i] *= of_out[i];
      for (int64_t i = 0; i < width; ++i) of_out[i] *= in[width + i];
    }
    std::copy_n(of_out, width, of_in);
    vector_functions()->activate_backward(activation, in, of_in, width);
  }
};

class FeedForwardKernel : public torch::autograd::Function<FeedForwardKernel> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& up,
                        const std::optional<Tensor>& up_bias, const Tensor& down,
                        const std::optional<Tensor>& down_bias, int64_t activation, bool gated, at::ScalarType dtype) {
    RECORD_FUNCTION("attnscale::feed_forward", std::vector<c10::IValue>());
    return with_type(dtype, [&]<class T>() {
      const Inside inside{static_cast<Activation>(activation), gated, down.size(1)};
      const Tensor rows = rows_of<T>(x);
      const int64_t count = rows.size(0), columns = inside.columns(), even = inner_of<T>(inside.width);
      Tensor hidden = at::empty({count, columns}, rows.options());  // what the activation reads
      Tensor active = even == inside.width ? at::empty({count, even}, rows.options())
                                           : at::zeros({count, even}, rows.options());  // and what it puts out
      Tensor out = at::empty({count, down.size(0)}, rows.options());
      const Tensor up_panels = panels_of_transpose<T>(up), down_panels = panels_of_transpose<T>(down);
      by_row_blocks(count, row_block, [&](int64_t first, int64_t block) {
        T* before = hidden.mutable_data_ptr<T>() + first * columns;
        T* activated = active.mutable_data_ptr<T>() + first * even;
        T* after = out.mutable_data_ptr<T>() + first * down.size(0);
        float* tile = as_floats(before, 1, row_block * columns);
        block_product(rows.const_data_ptr<T>() + first * rows.size(1), rows.size(1), block, up.size(1), up_panels,
                      or_undefined(up_bias), tile, columns);
        finish(tile, before, block * columns);
        for (int64_t i = 0; i < block; ++i) {
          float* row = as_floats(activated + i * even, 2, inside.width);
          inside.activate(tile + i * columns, row);
          finish(row, activated + i * even, inside.width);
        }
        tile = as_floats(after, 1, row_block * down.size(0));
        block_product(activated, even, block, inside.width, down_panels, or_undefined(down_bias), tile, down.size(0));
        finish(tile, after, block * down.size(0));
      });
      context->save_for_backward({rows, up, down, hidden, active});
      context->saved_data["shape"] = x.sizes();
      context->saved_data["type"] = x.scalar_type();
      context->saved_data["dtype"] = dtype;
      context->saved_data["wanted"] = wanted_of({x, up, or_undefined(up_bias), down, or_undefined(down_bias)});
      context->saved_data["activation"] = activation;
      context->saved_data["gated"] = gated;
      count_flops("attnscale::feed_forward", product_flops(rows, up) + product_flops(rows, down));
      return out.view(shape_with_last(x, down.size(0)));
    });
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::feed_forward_backward", std::vector<c10::IValue>());
    refuse_second_derivative("feed_forward_kernel");
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    return with_type(data["dtype"].toScalarType(), [&]<class T>() -> variable_list {
      const Tensor &rows = saved[0], &up = saved[1], &down = saved[2], &hidden = saved[3], &active = saved[4];
      const Inside inside{static_cast<Activation>(data["activation"].toInt()), data["gated"].toBool(), down.size(1)};
      const Tensor gradient = rows_of<T>(gradients[0]);
      const Tensor of_hidden = hidden_gradient<T>(gradient, down, hidden, inside);
      const int64_t wanted = data["wanted"].toInt();
      Tensor of_x, of_up, of_up_bias, of_down, of_down_bias;
      if ((wanted & 1) != 0)
        of_x = input_gradient<T>(of_hidden, up, data["shape"].toIntVector(), data["type"].toScalarType());
      if ((wanted & 2) != 0) of_up = transposed_product<T>(of_hidden, inside.columns(), rows, up.size(1));
      if ((wanted & 4) != 0) of_up_bias = row_sums<T>(of_hidden, inside.columns());
      if ((wanted & 8) != 0) of_down = transposed_product<T>(gradient, down.size(0), active, inside.width);
      if ((wanted & 16) != 0) of_down_bias = row_sums<T>(gradient, down.size(0));
      count_flops("attnscale::feed_forward_backward", (of_x.defined() + of_up.defined()) * product_flops(rows, up) +
                                                          (1 + of_down.defined()) * product_flops(rows, down));
      return {of_x, of_up, of_up_bias, of_down, of_down_bias, Tensor(), Tensor(), Tensor()};
    });
  }

 private:
  /// @return [M, inner_of(columns)], rows of T
  template <class T>
  static Tensor hidden_gradient(const Tensor& gradient, const Tensor& down, const Tensor& hidden,
                                const Inside& inside) {
    const int64_t columns = inside.columns(), even = inner_of<T>(columns), outputs = down.size(0);
    const Tensor panels = panels_of_rows<T, float>(down.contiguous(), inside.width);
    Tensor result = at::empty({hidden.size(0), even}, hidden.options());
    by_row_blocks(hidden.size(0), row_block, [&](int64_t first, int64_t block) {
      float* tile = scratch(1, row_block * inside.width);
      product(gradient.const_data_ptr<T>() + first * gradient.size(1), gradient.size(1), panels.const_data_ptr<T>(),
              tile, inside.width, block, outputs, inside.width);
      for (int64_t i = 0; i < block; ++i) {
        const T* from = hidden.const_data_ptr<T>() + (first + i) * columns;
        T* to = result.mutable_data_ptr<T>() + (first + i) * even;
        const float* before = read_floats(from, 2, columns);
        float* after = as_floats(to, 3, columns);
        inside.activate_backward(before, tile + i * inside.width, after);
        finish(after, to, columns);
        if (even > columns) to[columns] = 0;
      }
    });
    return result;
  }
};

}  // namespace

std::optional<at::ScalarType> product_dtype(const Tensor& x, const Tensor& weight) {
  if (!x.is_cpu() || weight.scalar_type() != at::kFloat || x.numel() == 0 || !weight.is_cpu()) return std::nullopt;
  auto dtype = at::kFloat;
  if (autocast_applies())
    if (const auto mixed = mixed_dtype(at::kCPU)) dtype = *mixed;
  if (!has_kernels(dtype)) return std::nullopt;
  const auto given = x.scalar_type();
  if (given != at::kFloat && given != dtype) return std::nullopt;
  return dtype;
}

Tensor linear_kernel(const Tensor& x, const Tensor& weight, const Tensor& bias, at::ScalarType dtype) {
  return LinearKernel::apply(x, weight, if_defined(bias), dtype);
}

Tensor feed_forward_kernel(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down,
                           const Tensor& down_bias, Activation activation, bool gated, at::ScalarType dtype) {
  return FeedForwardKernel::apply(x, up, if_defined(up_bias), down, if_defined(down_bias),
                                  static_cast<int64_t>(activation), gated, dtype);
}

}  // namespace attnscale
