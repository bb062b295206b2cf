#pragma once

#include "attention/attention.h"

// B batch, G key-value heads, S positions, D key width, E value width
//
// The cache of keys and values, which most variants decode with: all of it, or what a window has left.

namespace attnscale {

/// A state of empty `key` [B, G, 0, D] and `value` [B, G, 0, E].
State empty_key_value_state(const Geometry& geometry, int64_t batch, torch::TensorOptions options);

/// Appends keys and values to the state's tensors `key` and `value`, and gives everything absorbed, with the queries
/// of `in`. The cache grows in place where it has room and nobody else holds it; otherwise, and with gradients, it is
/// copied once.
Inputs appended(const Inputs& in, State& state);

/// A variant that decodes with such a state, and whose `forward` takes more keys than queries: each call is `forward`
/// of the new queries over everything absorbed. Variants whose next query needs less, or
/// that do less work for few queries, write a `decode` of their own on the same state.
class CachedAttention : public Attention {
 public:
  using Attention::Attention;

  State new_state(int64_t batch, torch::TensorOptions options) const override;
  Tensor decode(const Inputs& in, State& state) override { return forward(appended(in, state)); }
};

/// Bytes of such a state that holds `positions`.
int64_t key_value_bytes(const Geometry& geometry, int64_t batch, int64_t positions);

}  // namespace attnscale
