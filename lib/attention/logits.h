#pragma once

#include "attention/attention.h"

// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width
//
// Attention written out, for the variants that change the logits themselves, which the fused kernels
// do not let them: every logit and every weight is kept for the backward pass.

namespace attnscale {

/// q . k for every pair: query [B, H, T, D], key [B, G, S, D] -> [B, H, T, S]. Heads that share keys go
/// into one product, so that keys are never repeated. Nobody else holds the result: it may be overwritten.
/// Cost: 2 B H T S D executed FLOPs.
Tensor pair_products(const Tensor& query, const Tensor& key);

/// sum_s weights_s value_s: weights [B, H, T, S], value [B, G, S, E] -> [B, H, T, E].
/// Cost: 2 B H T S E executed FLOPs.
Tensor weighted_values(const Tensor& weights, const Tensor& value);

/// sum_s softmax_s(logits) value_s over the visible keys, with the softmax in at least float32.
/// A query that sees no key gives zeros and sends no gradient.
/// @param logits   [B, H, T, S]; overwritten
/// @param visible  bool, broadcast to [B, H, T, S]; undefined: every key is visible
/// @param value    [B, G, S, E]
/// @param sinks    [H], the logit of one more column that stands for no value; undefined: none
/// @return [B, H, T, E], dtype of value
/// Cost: 2 B H T S E executed FLOPs.
Tensor attend_by_logits(Tensor logits, const Tensor& visible, const Tensor& value, const Tensor& sinks = {});

}  // namespace attnscale
