#include "tensor/kernels/attention_kernel.h"

#include <ATen/record_function.h>

#include "tensor/empty.h"
#include "tensor/flop_counter.h"
#include "tensor/full_precision.h"
#include "tensor/graph_node.h"
#include "tensor/head_layout.h"
#include "tensor/kernels/attention_backward.h"
#include "tensor/kernels/attention_forward.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/head_rows.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/kernels.h"
#include "tensor/precision.h"

namespace attnscale {
namespace {

/// Calls work(b, g) for each batch row and key-value head.
template <class Work>
void for_each_group(const AttentionSizes& sizes, const Work& work) {
  by_row_blocks(sizes.batch * sizes.groups, 1,
                [&](int64_t index, int64_t) { work(index / sizes.groups, index % sizes.groups); });
}

class AttentionKernel : public GraphNode<AttentionKernel> {
 public:
  Tensor forward(const Tensor& query, const Tensor& key, const Tensor& value, const Band& band,
                 const std::shared_ptr<const TileLayout>& layout, double counted_pairs, at::ScalarType dtype) {
    RECORD_FUNCTION("attnscale::attention", std::vector<c10::IValue>());
    layout_ = layout;
    types_ = {query.scalar_type(), key.scalar_type(), value.scalar_type()};
    const AttentionSizes sizes{query.size(0), query.size(1), key.size(1), query.size(2), key.size(2),
                               query.size(3), value.size(3), band,        layout.get()};
    const auto q = with_dense_rows(query.to(dtype)), k = with_dense_rows(key.to(dtype)),
               v = with_dense_rows(value.to(dtype));
    auto out = by_positions(sizes.batch, sizes.heads, sizes.queries, sizes.value_width, dtype);
    auto log_totals = empty_on_cpu({sizes.batch, sizes.heads, sizes.queries}, at::kFloat);
    for_each_group(sizes, [&](int64_t b, int64_t g) {
      if (dtype == at::kFloat) forward_group<float>(sizes, q, k, v, b, g, out, log_totals);
      else forward_group<at::BFloat16>(sizes, q, k, v, b, g, out, log_totals);
    });
    sizes_ = sizes;
    flops_ = 2 * static_cast<double>(sizes.batch * sizes.heads * (sizes.width + sizes.value_width)) * counted_pairs;
    count_flops("attnscale::attention", flops_);
    keep({q, k, v, out, log_totals});
    return out;
  }

  variable_list backward(const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::attention_backward", std::vector<c10::IValue>());
    refuse_second_derivative("attention_kernel");
    const auto saved = kept();
    const auto &query = saved[0], &key = saved[1], &value = saved[2];
    const auto gradient = with_dense_rows(gradients[0].to(query.scalar_type()));
    auto of = empty_parts({query, key, value});
    for_each_group(sizes_, [&](int64_t b, int64_t g) {
      if (query.scalar_type() == at::kFloat) backward_group<float>(sizes_, saved, gradient, b, g, of);
      else backward_group<at::BFloat16>(sizes_, saved, gradient, b, g, of);
    });
    count_flops("attnscale::attention_backward", 2.5 * flops_);
    for (size_t i = 0; i < of.size(); ++i) of[i] = of[i].to(types_[i]);
    return of;
  }

 private:
  AttentionSizes sizes_ = {};
  std::shared_ptr<const TileLayout> layout_;  ///< that of `sizes_`
  std::array<at::ScalarType, 3> types_ = {};  ///< of query, key and value
  double flops_ = 0;
};

void check_call(const Tensor& query, const Tensor& key, const Tensor& value, at::ScalarType dtype) {
  check_heads("attention_kernel", query, key, value);
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "attention_kernel: ", dtype,
              ", expected float32 or bfloat16");
  TORCH_CHECK(dtype == at::kFloat || (query.size(3) % 2 == 0 && value.size(3) % 2 == 0), "attention_kernel: widths ",
              query.size(3), " and ", value.size(3), " in ", dtype, ", expected even ones");
}

}  // namespace

std::optional<at::ScalarType> attention_dtype(const Tensor& query, const Tensor& key, const Tensor& value) {
  constexpr int64_t fewest_queries = 8;  // for fewer, turning the keys costs more than it saves
  if (!query.is_cpu() || query.size(2) < fewest_queries || query.size(0) == 0 || key.size(2) == 0) return std::nullopt;
  auto dtype = query.scalar_type();
  if (autocast_applies())
    if (const auto mixed = mixed_dtype(at::kCPU); mixed && dtype != at::kDouble) dtype = *mixed;
  if (!has_kernels(dtype)) return std::nullopt;
  for (const auto& x : {query, key, value})
    if (x.scalar_type() != at::kFloat && x.scalar_type() != dtype) return std::nullopt;
  const bool odd = query.size(3) % 2 != 0 || value.size(3) % 2 != 0;
  if ((dtype == at::kBFloat16 && odd) || query.size(3) == 0 || value.size(3) == 0) return std::nullopt;
  return dtype;
}

Tensor attention_kernel(const Tensor& query, const Tensor& key, const Tensor& value, const Band& band,
                        double counted_pairs, at::ScalarType dtype) {
  check_call(query, key, value, dtype);
  return AttentionKernel::apply(query, key, value, band, std::shared_ptr<const TileLayout>(), counted_pairs, dtype);
}

Tensor attention_kernel(const Tensor& query, const Tensor& key, const Tensor& value,
                        std::shared_ptr<const TileLayout> layout, double counted_pairs, at::ScalarType dtype) {
  check_call(query, key, value, dtype);
  TORCH_CHECK(layout, "attention_kernel: no layout");
  check_layout(*layout, query.size(2), key.size(2));
  return AttentionKernel::apply(query, key, value, Band{Band::all, Band::all}, layout, counted_pairs, dtype);
}

}  // namespace attnscale
