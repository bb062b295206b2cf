#include "tensor/kernels/decode_kernel.h"

#include <cmath>
#include <limits>

#include <ATen/record_function.h>

#include "tensor/empty.h"
#include "tensor/flop_counter.h"
#include "tensor/full_precision.h"
#include "tensor/head_layout.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/norm_rows.h"
#include "tensor/kernels/product_nodes.h"
#include "tensor/kernels/row_functions.h"
#include "tensor/kernels/softmax_tile.h"
#include "tensor/precision.h"

namespace attnscale {
namespace {

constexpr int64_t most_rows = 4;

bool is_kernel_type(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }

bool plain_decoding() {
  return has_kernels(at::kFloat) && !at::GradMode::is_enabled() && !(autocast_applies() && mixed_dtype(at::kCPU));
}

void dots(const float* matrix, int64_t stride, int64_t rows, const float* x, float* out, int64_t columns) {
  row_functions()->dots(matrix, stride, rows, x, out, columns);
}
void dots(const at::BFloat16* matrix, int64_t stride, int64_t rows, const float* x, float* out, int64_t columns) {
  row_functions()->dots16(bits(matrix), stride, rows, x, out, columns);
}
void weighted_sum(const float* matrix, int64_t stride, int64_t rows, const float* weights, float* out,
                  int64_t columns) {
  row_functions()->weighted_sum(matrix, stride, rows, weights, out, columns);
}
void weighted_sum(const at::BFloat16* matrix, int64_t stride, int64_t rows, const float* weights, float* out,
                  int64_t columns) {
  row_functions()->weighted_sum16(bits(matrix), stride, rows, weights, out, columns);
}

/// out [outputs from `first` to `last`] = rows of W . x (+ bias), in float32.
template <class T>
void outputs_of(const Tensor& weight, const Tensor& bias, const float* x, int64_t first, int64_t last, float* out) {
  const int64_t inputs = weight.size(1);
  dots(weight.const_data_ptr<T>() + first * inputs, inputs, last - first, x, out, inputs);
  if (bias.defined()) loops().add(read_floats(bias.const_data_ptr<T>() + first, 3, last - first), out, last - first);
}

constexpr int64_t grain = 64;  // outputs that a thread takes at once

/// out [rows, outputs] = W x + bias for each row, rounded to T. @param x  [rows, inputs], T or float
template <class T, class In>
void put_outputs(const Tensor& weight, const Tensor& bias, const In* x, int64_t rows, T* out) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1);
  at::parallel_for(0, outputs, grain, [&](int64_t first, int64_t last) {
    float* sums = scratch(2, last - first);
    for (int64_t row = 0; row < rows; ++row) {
      outputs_of<T>(weight, bias, read_floats(x + row * inputs, 1, inputs), first, last, sums);
      convert(sums, out + row * outputs + first, last - first);
    }
  });
}

}  // namespace

bool has_few_rows(const Tensor& x, const Tensor& weight) {
  if (!x.is_cpu() || x.numel() == 0 || x.numel() > most_rows * x.size(-1) || !plain_decoding()) return false;
  return weight.is_cpu() && weight.scalar_type() == x.scalar_type() && is_kernel_type(x.scalar_type()) &&
         weight.is_contiguous();
}

Tensor few_rows_product(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  RECORD_FUNCTION("attnscale::few_rows_product", std::vector<c10::IValue>());
  TORCH_CHECK(x.dim() > 0 && weight.dim() == 2 && x.size(-1) == weight.size(1) && weight.is_contiguous(),
              "few_rows_product: x ", x.sizes(), " and weight ", weight.sizes(), " of strides ", weight.strides(),
              ", expected [.., K] and contiguous [N, K]");
  check_vector("few_rows_product: bias", bias, weight.size(0));
  const int64_t rows = x.numel() / weight.size(1);
  const Tensor in = x.contiguous(), shift = dense(bias);
  Tensor out = empty_on_cpu(shape_with_last(x, weight.size(0)), x.scalar_type());
  count_flops("attnscale::few_rows_product", 2 * static_cast<double>(rows) * static_cast<double>(weight.numel()));
  with_type(x.scalar_type(),
            [&]<class T>() { put_outputs(weight, shift, in.const_data_ptr<T>(), rows, out.mutable_data_ptr<T>()); });
  return out;
}

Tensor few_rows_feed_forward(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down,
                             const Tensor& down_bias, Activation activation, bool gated) {
  RECORD_FUNCTION("attnscale::few_rows_feed_forward", std::vector<c10::IValue>());
  TORCH_CHECK(x.dim() > 0 && up.dim() == 2 && down.dim() == 2 && x.size(-1) == up.size(1) && up.is_contiguous() &&
                  up.size(0) == (gated ? 2 : 1) * down.size(1) && down.is_contiguous(),
              "few_rows_feed_forward: x ", x.sizes(), ", up ", up.sizes(), " and down ", down.sizes(),
              ", expected [.., K], contiguous [", gated ? "2 F" : "F", ", K] and [N, F]");
  check_vector("few_rows_feed_forward: up_bias", up_bias, up.size(0));
  check_vector("few_rows_feed_forward: down_bias", down_bias, down.size(0));
  const int64_t inputs = up.size(1), width = down.size(1), rows = x.numel() / inputs;
  const Tensor in = x.contiguous(), up_shift = dense(up_bias), down_shift = dense(down_bias);
  Tensor out = empty_on_cpu(shape_with_last(x, down.size(0)), x.scalar_type());
  count_flops("attnscale::few_rows_feed_forward",
              2 * static_cast<double>(rows) * static_cast<double>(up.numel() + down.numel()));
  const Tensor hidden = empty_on_cpu({rows, up.size(0)}, at::kFloat), active = empty_on_cpu({rows, width}, at::kFloat);
  auto *before = hidden.mutable_data_ptr<float>(), *after = active.mutable_data_ptr<float>();
  with_type(x.scalar_type(), [&]<class T>() {
    at::parallel_for(0, width, grain, [&](int64_t first, int64_t last) {
      for (int64_t row = 0; row < rows; ++row) {
        const float* numbers = read_floats(in.const_data_ptr<T>() + row * inputs, 1, inputs);
        float *own = before + row * up.size(0), *value = after + row * width + first;
        outputs_of<T>(up, up_shift, numbers, first, last, own + first);
        loops().activate(activation, own + first, value, last - first);
        if (!gated) continue;
        outputs_of<T>(up, up_shift, numbers, width + first, width + last, own + width + first);
        loops().multiply(own + width + first, value, last - first);
      }
    });
    put_outputs(down, down_shift, after, rows, out.mutable_data_ptr<T>());
  });
  return out;
}

bool norms_few_rows(const Tensor& x, const Tensor& added, const Tensor& weight) {
  if (!x.is_cpu() || x.scalar_type() != at::kBFloat16 || x.numel() == 0 || x.numel() > most_rows * x.size(-1) ||
      !plain_decoding())
    return false;
  if (!weight.is_cpu() || weight.scalar_type() != at::kBFloat16 || weight.dim() != 1 || weight.size(0) != x.size(-1))
    return false;
  return !added.defined() || (added.is_cpu() && added.scalar_type() == at::kBFloat16 && added.sizes() == x.sizes());
}

Normed few_rows_norm(const Tensor& x, const Tensor& added, const Tensor& weight, const Tensor& bias,
                     const NormKind& kind) {
  RECORD_FUNCTION("attnscale::few_rows_norm", std::vector<c10::IValue>());
  TORCH_CHECK(norms_few_rows(x, added, weight), "few_rows_norm: x ", x.sizes(), " and weight ", weight.sizes(),
              ", expected few bfloat16 rows [.., M] and [M]");
  check_vector("few_rows_norm: bias", bias, x.size(-1));
  const int64_t width = x.size(-1), rows = x.numel() / width;
  const Tensor in = x.contiguous(), other = dense(added), gain = weight.contiguous(), shift = dense(bias);
  const Tensor stream = added.defined() ? empty_on_cpu(x.sizes(), at::kBFloat16) : in;
  const Tensor norm = empty_on_cpu(x.sizes(), at::kBFloat16);
  const auto wide = [](const Tensor& numbers, int slot) {
    return numbers.defined() ? read_floats(numbers.const_data_ptr<at::BFloat16>(), slot, numbers.numel()) : nullptr;
  };
  if (added.defined()) {
    float* sum = scratch(1, rows * width);
    convert(in.const_data_ptr<at::BFloat16>(), sum, rows * width);
    loops().add(wide(other, 2), sum, rows * width);
    convert(sum, stream.mutable_data_ptr<at::BFloat16>(), rows * width);
  }
  row_functions()->norm({.count = rows,
                         .width = width,
                         .x = wide(stream, 1),
                         .sum = nullptr,
                         .added = nullptr,
                         .added16 = nullptr,
                         .weight = wide(gain, 2),
                         .bias = wide(shift, 3),
                         .epsilon = static_cast<float>(kind.epsilon),
                         .centred = kind.centred,
                         .moments = scratch(4, 2 * rows),
                         .out = nullptr,
                         .out16 = bits(norm.mutable_data_ptr<at::BFloat16>())});
  return {added.defined() ? stream : x, norm};
}

bool is_newest_query(const Tensor& query, const Tensor& key, const Tensor& value) {
  if (!query.is_cpu() || query.size(2) != 1 || query.numel() == 0 || key.numel() == 0 || value.numel() == 0 ||
      !plain_decoding())
    return false;
  const auto type = query.scalar_type();
  return is_kernel_type(type) && key.scalar_type() == type && value.scalar_type() == type && key.stride(3) == 1 &&
         value.stride(3) == 1;
}

Tensor newest_attention(const Tensor& query, const Tensor& key, const Tensor& value) {
  RECORD_FUNCTION("attnscale::newest_attention", std::vector<c10::IValue>());
  check_heads("newest_attention", query, key, value);
  const int64_t heads = query.size(1), keys = key.size(2), wide = query.size(3), value_width = value.size(3);
  TORCH_CHECK(query.size(2) == 1 && key.stride(3) == 1 && value.stride(3) == 1, "newest_attention: ", query.size(2),
              " queries, keys ", key.stride(3), " and values ", value.stride(3),
              " numbers from number to number, expected 1");
  const int64_t shared = heads / key.size(1), all = query.size(0) * heads;
  const Tensor in = query.contiguous();
  Tensor out = by_positions(query.size(0), heads, 1, value_width, query.scalar_type());  // lies as [B, H, E] does
  count_flops("attnscale::newest_attention",
              2 * static_cast<double>(all * keys) * static_cast<double>(wide + value_width));
  with_type(query.scalar_type(), [&]<class T>() {
    at::parallel_for(0, all, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / heads, g = i % heads / shared;
        const T* first_key = key.const_data_ptr<T>() + b * key.stride(0) + g * key.stride(1);
        const T* first_value = value.const_data_ptr<T>() + b * value.stride(0) + g * value.stride(1);
        float *weights = scratch(2, at::divup(keys, int64_t{16}) * 16), *sum = scratch(3, value_width);
        dots(first_key, key.stride(2), keys, read_floats(in.const_data_ptr<T>() + i * wide, 1, wide), weights, wide);
        float highest = -std::numeric_limits<float>::infinity(), total = 0, shrink = 1;
        const int64_t low = 0;
        loops().softmax_tile({1, keys, keys, &low, &keys}, weights, nullptr, 1 / std::sqrt(static_cast<float>(wide)),
                             &highest, &total, &shrink);
        weighted_sum(first_value, value.stride(2), keys, weights, sum, value_width);
        loops().scale(sum, 1 / total, value_width);
        convert(sum, out.mutable_data_ptr<T>() + i * value_width, value_width);
      }
    });
  });
  return out;
}

}  // namespace attnscale
