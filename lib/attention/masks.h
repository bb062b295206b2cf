#pragma once

#include "attention/attention.h"

// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width
//
// Which keys a query may see, and softmax attention under such a mask. Masks are bool, true where
// the key is visible. The newest query stands at the newest key: with a cache of S keys and T new
// queries, query t is position S - T + t. (PyTorch's `is_causal` aligns the oldest ones instead,
// which is the same only for T = S.)

namespace attnscale {

/// The causal mask [T, S]: query t sees key s when s <= S - T + t.
Tensor causal_mask(int64_t queries, int64_t keys, torch::Device device = torch::kCPU);

/// Keys before and after its own position that a query sees.
struct Reach {
  int64_t behind, ahead;
};

/// The reach of a window of `window` keys, self included: all of it behind when causal, otherwise centred, with the
/// odd one of an even window behind.
Reach window_reach(int64_t window, bool causal);

/// Joins a mask [T, S] (undefined: all visible) with key padding [B, S] (undefined: all real).
/// @return [B, 1, T, S], or [T, S] without padding, or undefined when every key is visible
Tensor visible_keys(const Tensor& mask, const Tensor& key_padding);

/// Query-key pairs that a causal mask leaves among T queries and S keys: T (T + 1) / 2 for T = S.
double causal_pairs(int64_t queries, int64_t keys);

/// softmax(q k^T / sqrt(D)) v over the visible keys, by PyTorch's fused kernels where they apply
/// (CPU: all dtypes when E = D; otherwise the scores are kept).
/// A query that sees no key gives zeros and sends no gradient.
/// @param query [B, H, T, D], key [B, G, S, D], value [B, G, S, E]
/// @param causal   only with T = S and no `visible`: the kernel then skips the hidden half
/// @param visible  bool, broadcast to [B, H, T, S]; undefined: every key is visible
/// @param bias     [1, H, T, S], added to the logits; undefined: none. One that needs a gradient keeps every weight
/// @return [B, H, T, E], dtype of value
/// Cost: 2 B H T S (D + E) executed FLOPs by the counter's convention, whatever the mask.
Tensor softmax_attention(const Tensor& query, const Tensor& key, const Tensor& value, bool causal,
                         const Tensor& visible = {}, const Tensor& bias = {});

/// Key or value heads repeated so that each query head has its own: [B, G, S, D] -> [B, H, S, D].
Tensor repeat_heads(const Tensor& grouped, int64_t num_heads);

}  // namespace attnscale
