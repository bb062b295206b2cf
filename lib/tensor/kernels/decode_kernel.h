#pragma once

#include <torch/types.h>

#include "tensor/kernels/norm_kernel.h"
#include "tensor/kernels/vector_functions.h"

// M rows, K inputs, N outputs, F inside a feed-forward network, B batch, H heads, G key-value heads, S keys, D key
// width, E value width
//
// For a few new positions, without gradients, everything is as fast as memory gives weights and keys: nothing is packed
// or copied, and each number is read once for each row.

namespace attnscale {

using torch::Tensor;

/// Whether `few_rows_product` takes these: at most 4 rows, no gradients asked for and no autocast, weight and x float32
/// or both bfloat16, on the CPU.
bool has_few_rows(const Tensor& x, const Tensor& weight);

/// x W^T + b with sums in float32. Plain twin: at::linear.
/// @param x  [.., K], M rows @param weight  [N, K], contiguous @param bias  [N] or undefined @return [.., N]
/// Cost: 2 M N K FLOPs, M N K numbers of memory read.
Tensor few_rows_product(const Tensor& x, const Tensor& weight, const Tensor& bias);

/// down(f(up x)), gated: down(f(gate x) * up x), with sums and what is between in float32. Plain twin: `FeedForward`
/// from at::linear and the activations of LibTorch.
/// @param x  [.., K], M rows @param up  [F, K], gated [2 F, K], gate's rows first @param down  [N, F]; both and x as
///           `has_few_rows` takes them, biases [F or 2 F] and [N] of the same dtype or undefined
/// @return [.., N]. Cost: 2 M F (K + N) FLOPs, gated 2 M F (2 K + N); every weight is read once for each row.
Tensor few_rows_feed_forward(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down,
                             const Tensor& down_bias, Activation activation, bool gated);

/// Whether `few_rows_norm` takes these: at most 4 rows of a bfloat16 stream and weight, without gradients.
/// @param added  may be undefined
bool norms_few_rows(const Tensor& x, const Tensor& added, const Tensor& weight);

/// `norm_kernel` (whose float32 needs none of this) of a bfloat16 stream: the sum is rounded, its norm is made from the
/// rounded sum in float32. Plain twin: at::layer_norm, at::rms_norm and a sum. @return both in bfloat16
Normed few_rows_norm(const Tensor& x, const Tensor& added, const Tensor& weight, const Tensor& bias,
                     const NormKind& kind);

/// Whether `newest_attention` takes these.
bool is_newest_query(const Tensor& query, const Tensor& key, const Tensor& value);

/// softmax(q k^T / sqrt(D)) v of one query that sees every key. Plain twin: at::scaled_dot_product_attention.
/// @param query  [B, H, 1, D] @param key  [B, G, S, D] @param value  [B, G, S, E], of any strides between positions
/// @return [B, H, 1, E], laid out [B, 1, H, E]. Cost: 2 (D + E) FLOPs a key, H / G times each.
Tensor newest_attention(const Tensor& query, const Tensor& key, const Tensor& value);

}  // namespace attnscale
