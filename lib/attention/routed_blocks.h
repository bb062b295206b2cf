#pragma once

#include "attention/attention.h"

// B batch, H heads, G key-value heads, T = S positions, n blocks of c positions, J blocks that a query chose,
// D key width, E value width
//
// Softmax attention of each query to its own block and to a few others that it chose: what the variants that
// pick blocks by content share. Work is proportional to the blocks that are chosen.

namespace attnscale {

/// A softmax over some of the keys: its output and the logarithm of its normaliser, so that several can be joined.
/// A row that saw nothing has zeros and minus infinity.
struct PartialAttention {
  Tensor output;   ///< [.., E]
  Tensor log_sum;  ///< [..]
};

/// @param logits   [.., Q, K]
/// @param visible  bool, broadcasts to it; undefined: all
/// @param value    [.., K, E]
PartialAttention partial_attention(const Tensor& logits, const Tensor& visible, const Tensor& value);

/// One softmax over the keys of all parts, which have them apart: outputs [.., J, E] weighted by log_sums [.., J].
/// Zeros where no part saw anything.
Tensor joined_parts(const Tensor& outputs, const Tensor& log_sums);

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the own block (causal: up to t) and the chosen blocks.
///
/// Pairs of query and chosen block are sorted by block and cut into tiles of one block each; a tile is one matrix
/// product. So a block is read once per tile, not once per query. How many tiles there can be follows from the
/// sizes alone, and as many are computed.
/// @param chosen  int64 [B, H, T, J], blocks other than the own, all of whose keys a query may see; n for none.
///                No repeats. Undefined or J = 0: the own block alone
/// Sums are kept in the dtype of the inputs; call under `FullPrecision` with float32 for the half types.
Tensor routed_attention(const Inputs& in, int64_t block, bool causal, const Tensor& chosen);

/// The same choice as a mask over all `keys` positions, for the T newest queries (decoding): the own block up to the
/// query, and what was chosen.
/// @param chosen  int64 [B, H, T, J], or undefined
/// @return        bool [B, H, T, keys], or [T, keys]
Tensor routed_mask(const Tensor& chosen, int64_t queries, int64_t keys, int64_t block, torch::Device device);

/// What it does, per batch row: query-key pairs of all heads.
struct RoutedWork {
  double own_pairs = 0, chosen_pairs = 0;
  double pairs() const { return own_pairs + chosen_pairs; }
};
RoutedWork routed_work(const Geometry& geometry, int64_t positions, int64_t block, int64_t num_chosen);

/// Numbers kept for the backward pass, per batch row, beyond query, key, value and output.
double routed_kept(const Geometry& geometry, int64_t positions, int64_t block, int64_t num_chosen);

}  // namespace attnscale
