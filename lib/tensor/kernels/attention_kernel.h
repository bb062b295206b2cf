#pragma once

#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include <torch/types.h>

// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width

namespace attnscale {

using torch::Tensor;

/// The keys that a query sees: from `behind` before its own place to `ahead` after it, queries aligned with the newest
/// key. As large as can be: everything on that side.
struct Band {
  static constexpr int64_t all = std::numeric_limits<int64_t>::max() / 4;
  int64_t behind = all, ahead = all;
};

/// Which tiles of 64 queries and 64 keys meet, and which pairs inside them do: any mask, the same for all heads, at the
/// cost of the tiles that it has.
struct TileLayout {
  std::vector<int64_t> first = {0};        ///< of each tile of queries, the first of its meetings; and the end
  std::vector<int64_t> key_tiles;          ///< of each meeting, ascending for one tile of queries
  std::vector<uint64_t> by_query, by_key;  ///< [meeting][64]: bits of the keys that a query sees, and the other way

  /// Adds the tile of queries that comes next. @param tiles  ascending @param seen  bits of keys, [tile][64]; a tile
  /// that no query sees is left out
  void append(const std::vector<int64_t>& tiles, const std::vector<uint64_t>& seen);
};

/// The dtype in which `attention_kernel` takes these, by autocast's rules; nothing: it does not.
std::optional<at::ScalarType> attention_dtype(const Tensor& query, const Tensor& key, const Tensor& value);

/// y_t = sum_s softmax_s(q_t . k_s / sqrt(D)) v_s over the keys of the band; zeros for a query that sees none. By tiles
/// of 64 queries (backward: keys) and spans of up to 256 of the other side, leaving out tiles that do not meet, with a
/// running softmax; the backward pass makes the weights again from the log of their sum. Never holds T x S numbers:
/// Dao et al. 2022, arXiv:2205.14135, algorithms 1 and 4 (there for a GPU). Plain twin: softmax_attention
/// (lib/attention/masks.h) on at::scaled_dot_product_attention.
/// @param query  [B, H, T, D] @param key  [B, G, S, D] @param value  [B, G, S, E]; of any strides
/// @param counted_pairs  query-key pairs of a head that FlopCounter is told of, as the twin would
/// @return [B, H, T, E], of `dtype`, laid out [B, T, H, E]
/// Cost: 2 (D + E) FLOPs a pair, 4 (D + E) + 2 D backward (the twin's 5 (D + E) are told); memory T + S.
Tensor attention_kernel(const Tensor& query, const Tensor& key, const Tensor& value, const Band& band,
                        double counted_pairs, at::ScalarType dtype);

/// The same over the pairs of a layout, which covers all T queries. Cost: of its tiles.
Tensor attention_kernel(const Tensor& query, const Tensor& key, const Tensor& value,
                        std::shared_ptr<const TileLayout> layout, double counted_pairs, at::ScalarType dtype);

}  // namespace attnscale
