#pragma once

#include "attention/blocks.h"
#include "core/options.h"
#include "tensor/kernels/recurrence_kernel.h"

// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, n chunks of c positions,
// F width of queries and keys (features), E value width
//
// Sums over keys of (q_t . k_i) v_i: the products of everything that replaces softmax's exponential by a
// product of features. Without decay; with it: recurrence.h.

namespace attnscale {

/// What an engine costs: FLOPs of its matrix products, and the numbers it keeps for the backward pass.
struct EngineCost {
  double flops = 0, kept = 0;
};

/// Over all keys.
/// @param query [B, H, T, F], key [B, G, S, F], value [B, G, S, E] @return [B, H, T, E]
Tensor all_sums(const Tensor& query, const Tensor& key, const Tensor& value);
EngineCost all_sums_cost(const CallSizes& sizes);

/// Over the keys i <= t and those summed up in `initial` before. By chunks: inside a chunk as a masked
/// product, between chunks by the running state, which is exact. By `recurrence_kernel` where it applies and nothing was
/// summed up before.
/// @param query [B, H, T, F], key [B, G, T, F], value [B, G, T, E], initial [B, G, F, E] or undefined
/// @return [B, H, T, E]
Tensor causal_sums(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& initial,
                   int64_t chunk_length);

/// Of a call without `initial`. `key_width` of the sizes is F, `value_width` E.
EngineCost causal_sums_cost(const CallSizes& sizes, int64_t chunk_length);

/// The option that every chunked variant has.
template <class Options>
Field chunk_length_field(int64_t Options::*member) {
  return field(member, "chunk_length", "longest chunk of the causal form; changes speed and rounding, not the result")
      .between(1, longest_chunk)
      .in("positions");
}

}  // namespace attnscale
