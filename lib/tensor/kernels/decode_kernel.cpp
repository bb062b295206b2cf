#include "tensor/kernels/decode_kernel.h"

#include <cmath>
#include <limits>

#include <ATen/record_function.h>

#include "tensor/flop_counter.h"
#include "tensor/full_precision.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/matrix_products.h"
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

template <class Work>
auto with_type(at::ScalarType dtype, const Work& work) {
  return dtype == at::kBFloat16 ? work.template operator()<at::BFloat16>() : work.template operator()<float>();
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
  const int64_t inputs = weight.size(1), outputs = weight.size(0), rows = x.numel() / inputs;
  auto shape = x.sizes().vec();
  shape.back() = outputs;
  const Tensor in = x.contiguous(), shift = bias.defined() ? bias.contiguous() : bias;
  Tensor out = empty_on_cpu(shape, x.scalar_type());
  count_flops("attnscale::few_rows_product", 2 * static_cast<double>(rows) * static_cast<double>(weight.numel()));
  with_type(x.scalar_type(), [&]<class T>() {
    constexpr int64_t grain = 64;  // weights that a thread takes at once
    at::parallel_for(0, outputs, grain, [&](int64_t first, int64_t last) {
      const int64_t count = last - first;
      float* sums = scratch(2, count);
      for (int64_t row = 0; row < rows; ++row) {
        dots(weight.const_data_ptr<T>() + first * inputs, inputs, count,
             read_floats(in.const_data_ptr<T>() + row * inputs, 1, inputs), sums, inputs);
        if (shift.defined())
          vector_functions()->add(read_floats(shift.const_data_ptr<T>() + first, 3, count), sums, count);
        convert(sums, out.mutable_data_ptr<T>() + row * outputs + first, count);
      }
    });
  });
  return out;
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
  Tensor out = empty_on_cpu({query.size(0), heads, 1, value_width}, query.scalar_type());
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
        vector_functions()->softmax_tile({1, keys, keys, &low, &keys}, weights, nullptr,
                                         1 / std::sqrt(static_cast<float>(wide)), &highest, &total, &shrink);
        weighted_sum(first_value, value.stride(2), keys, weights, sum, value_width);
        vector_functions()->scale(sum, 1 / total, value_width);
        convert(sum, out.mutable_data_ptr<T>() + i * value_width, value_width);
      }
    });
  });
  return out;
}

}  // namespace attnscale
