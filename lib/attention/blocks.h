#pragma once

#include "attention/attention.h"

// B batch, H heads, G key-value heads, R = H / G heads that share one, T queries, S keys,
// n blocks of c positions, D key width, E value width
//
// Cutting sequences into blocks: how the variants whose work grows linearly with the length reach
// batched matrix products without a loop over positions.

namespace attnscale {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Blocks of one length that cover some positions.
struct Blocks {
  int64_t count = 1;   ///< n
  int64_t length = 1;  ///< c
  int64_t padded() const { return count * length; }
};

/// As few blocks of at most `longest` positions as cover `positions`, made equally long, so that
/// fewer than `count` positions are padding.
Blocks even_blocks(int64_t positions, int64_t longest);

/// Zeros before and after along the positions of [.., S, D]; a negative number crops.
Tensor pad_positions(const Tensor& x, int64_t before, int64_t after);

/// Queries of the heads that share a key-value head side by side: [B, H, T, D] -> [B, G, n, R c, D],
/// padded to n c positions. Row r c + j of a block is position j of head r. A view where R = 1 and T = n c.
Tensor query_blocks(const Tensor& query, int64_t num_kv_heads, const Blocks& blocks);

/// Back again, without the padding: [B, G, n, R c, E] -> [B, H, T, E].
Tensor joined_blocks(const Tensor& blocked, int64_t num_heads, int64_t positions);

/// Keys or values by block: [B, G, S, D] -> [B, G, n, c, D], padded with zeros.
Tensor key_blocks(const Tensor& key, const Blocks& blocks);

/// float32 for the half-precision types, otherwise the type itself: what long sums are kept in.
torch::ScalarType accumulation_type(torch::ScalarType type);

/// [B, S] -> [B, 1, S, 1], to multiply keys and values with.
inline Tensor per_key(const Tensor& key_padding) { return key_padding.unsqueeze(1).unsqueeze(-1); }

/// Sizes of one call.
struct CallSizes {
  int64_t batch, heads, kv_heads, queries, keys, key_width, value_width;
};

/// Checks query [B, H, T, D], key [B, G, S, D], value [B, G, S, E] and key_padding [B, S] against
/// each other and the geometry; T = S where `self_attention`.
/// @throws ShapeError naming the variant and the tensor
CallSizes checked_sizes(const char* variant, const Inputs& inputs, const Geometry& geometry, bool self_attention);

}  // namespace attnscale
