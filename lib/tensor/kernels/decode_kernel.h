#pragma once

#include <torch/types.h>

// M rows, K inputs, N outputs, B batch, H heads, G key-value heads, S keys, D key width, E value width
//
// For a few new positions, without gradients, everything is as fast as memory gives weights and keys: nothing is packed
// or copied, each number is read once.

namespace attnscale {

using torch::Tensor;

/// Whether `few_rows_product` takes these: at most 4 rows, no gradients asked for and no autocast, weight and x float32
/// or both bfloat16, on the CPU.
bool has_few_rows(const Tensor& x, const Tensor& weight);

/// x W^T + b with sums in float32. Plain twin: at::linear.
/// @param x  [.., K], M rows @param weight  [N, K], contiguous @param bias  [N] or undefined @return [.., N]
/// Cost: 2 M N K FLOPs, N K numbers of memory read.
Tensor few_rows_product(const Tensor& x, const Tensor& weight, const Tensor& bias);

/// Whether `newest_attention` takes these.
bool is_newest_query(const Tensor& query, const Tensor& key, const Tensor& value);

/// softmax(q k^T / sqrt(D)) v of one query that sees every key. Plain twin: at::scaled_dot_product_attention.
/// @param query  [B, H, 1, D] @param key  [B, G, S, D] @param value  [B, G, S, E], of any strides between positions
/// @return [B, H, 1, E]. Cost: 2 (D + E) FLOPs a key, H / G times each.
Tensor newest_attention(const Tensor& query, const Tensor& key, const Tensor& value);

}  // namespace attnscale
