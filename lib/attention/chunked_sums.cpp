#include "attention/chunked_sums.h"

#include <ATen/ops/_unsafe_view.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

namespace attnscale {

Tensor all_sums(const Tensor& query, const Tensor& key, const Tensor& value) {
  const auto state = at::matmul(key.mT(), value);  // [B, G, F, E]
  const auto rows = query_blocks(query, key.size(1), {1, query.size(2)}).squeeze(2);
  return joined_blocks(at::matmul(rows, state).unsqueeze(2), query.size(1), query.size(2));
}

EngineCost all_sums_cost(const CallSizes& sizes) {
  const double batch = sizes.batch, heads = sizes.heads, groups = sizes.kv_heads;
  const double product = static_cast<double>(sizes.key_width) * sizes.value_width;
  return {2 * batch * (groups * sizes.keys + heads * sizes.queries) * product, batch * groups * product};
}

Tensor causal_sums(const Tensor& whole_query, const Tensor& whole_key, const Tensor& whole_value, const Tensor& initial,
                   int64_t chunk_length) {
  const int64_t heads = whole_query.size(1), groups = whole_key.size(1), positions = whole_query.size(2);
  const auto dtype = recurrence_dtype(whole_value.scalar_type(), {whole_query, whole_key, whole_value});
  if (!initial.defined() && dtype) {
    const CallSizes sizes{whole_query.size(0),  heads, groups, positions, positions, whole_query.size(3),
                          whole_value.size(3)};
    return recurrence_kernel(whole_query, whole_key, whole_value, {}, {},
                             {.dtype = *dtype,
                              .output = whole_value.scalar_type(),
                              .chunk_length = chunk_length,
                              .flops = causal_sums_cost(sizes, chunk_length).flops});
  }
  const auto blocks = even_blocks(positions, chunk_length);
  const auto [n, c] = blocks;
  const auto query = query_blocks(whole_query, groups, blocks);  // [B, G, n, R c, F]
  const auto key = key_blocks(whole_key, blocks);                // [B, G, n, c, F]
  const auto value = key_blocks(whole_value, blocks);            // [B, G, n, c, E]

  const auto weights = at::matmul(query, key.mT());  // [B, G, n, R c, c]
  // _unsafe_view: the product has no other user, and an in-place write to an ordinary view would
  // make autograd copy the whole gradient.
  const auto masked = at::_unsafe_view(weights, {query.size(0), groups, n, heads / groups, c, c}).tril_();
  auto sums = at::matmul(masked.view(weights.sizes()), value);  // [B, G, n, R c, E]
  if (n == 1 && !initial.defined()) return joined_blocks(sums, heads, positions);

  // What each chunk finds: `initial` and the sums of the chunks before it.
  const auto made = at::matmul(key.narrow(2, 0, n - 1).mT(), value.narrow(2, 0, n - 1));  // [B, G, n - 1, F, E]
  const auto first = initial.defined() ? initial.unsqueeze(2)
                                       : at::zeros({key.size(0), groups, 1, key.size(4), value.size(4)}, key.options());
  const auto found = at::cat({first, made.cumsum(2) + first}, 2);  // [B, G, n, F, E]
  sums = at::baddbmm(sums.flatten(0, 2), query.flatten(0, 2), found.flatten(0, 2)).view(sums.sizes());
  return joined_blocks(sums, heads, positions);
}

EngineCost causal_sums_cost(const CallSizes& sizes, int64_t chunk_length) {
  const auto blocks = even_blocks(sizes.queries, chunk_length);
  const double batch = sizes.batch, heads = sizes.heads, groups = sizes.kv_heads;
  const double n = blocks.count, c = blocks.length, f = sizes.key_width, e = sizes.value_width;
  EngineCost cost{2 * batch * heads * n * c * c * (f + e), batch * heads * n * c * c};
  if (blocks.count > 1) {
    cost.flops += 2 * batch * (groups * (n - 1) + heads * n) * c * f * e;
    cost.kept += batch * groups * n * f * e;
  }
  return cost;
}

}  // namespace attnscale
