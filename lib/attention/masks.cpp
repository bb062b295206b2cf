#include "attention/masks.h"

#include <cmath>
#include <optional>

#include <ATen/ops/arange.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "tensor/kernels/attention_kernel.h"
#include "tensor/kernels/decode_kernel.h"

namespace attnscale {

Tensor causal_mask(int64_t queries, int64_t keys, torch::Device device) {
  const auto options = torch::TensorOptions().dtype(torch::kInt64).device(device);
  const auto query_positions = at::arange(keys - queries, keys, options).unsqueeze(1);  // [T, 1]
  return at::arange(keys, options).unsqueeze(0) <= query_positions;                     // [T, S]
}

Reach window_reach(int64_t window, bool causal) {
  if (causal) return {window - 1, 0};
  return {window / 2, (window - 1) / 2};
}

Tensor visible_keys(const Tensor& mask, const Tensor& key_padding) {
  if (!key_padding.defined()) return mask;
  const auto real = key_padding.unsqueeze(1).unsqueeze(1);  // [B, 1, 1, S]
  return mask.defined() ? real.logical_and(mask) : real;
}

double causal_pairs(int64_t queries, int64_t keys) {
  // Query t sees S - T + t + 1 keys; with more queries than keys the oldest T - S see none.
  const double seeing = static_cast<double>(std::min(queries, keys));
  return seeing * static_cast<double>(keys) - seeing * (seeing - 1) / 2;
}

Tensor softmax_attention(const Tensor& query, const Tensor& key, const Tensor& value, bool causal,
                         const Tensor& visible, const Tensor& bias) {
  const bool grouped = key.size(1) != query.size(1);
  if (!visible.defined() && !bias.defined() && is_newest_query(query, key, value))
    return newest_attention(query, key, value);
  if (!visible.defined() && !bias.defined())
    if (const auto dtype = attention_dtype(query, key, value))
      return attention_kernel(query, key, value, causal ? Band{.ahead = 0} : Band{},
                              static_cast<double>(query.size(2)) * static_cast<double>(key.size(2)), *dtype);
  if (!visible.defined())
    return at::scaled_dot_product_attention(query, key, value, bias.defined() ? std::optional(bias) : std::nullopt, 0.0,
                                            causal, std::nullopt, grouped);
  // Kernels differ in what they make of a row without keys (zeros, a mean, NaN). Such a row sees
  // every key instead, so that all is finite, and its output is replaced by zeros.
  const auto blind = visible.any(-1, /*keepdim=*/true).logical_not();  // [.., T or 1, 1]
  auto mask = visible.logical_or(blind);
  if (mask.dim() == 4 && mask.size(2) == 1) mask = mask.expand({-1, -1, query.size(2), -1});
  if (bias.defined()) mask = bias.masked_fill(mask.logical_not(), -INFINITY);
  const auto output = at::scaled_dot_product_attention(query, key, value, mask, 0.0, false, std::nullopt, grouped);
  return output.masked_fill(blind, 0);
}

Tensor repeat_heads(const Tensor& grouped, int64_t num_heads) {
  const auto groups = grouped.size(1);
  if (groups == num_heads) return grouped;
  return grouped.unsqueeze(2)
      .expand({-1, -1, num_heads / groups, -1, -1})
      .reshape({grouped.size(0), num_heads, grouped.size(2), grouped.size(3)});
}

}  // namespace attnscale
