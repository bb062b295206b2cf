#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "attention/attention.h"

// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, c block length,
// W keys that a block of queries gathers, D key width, E value width
//
// Softmax attention in which each block of queries reads a list of key blocks: what the block-sparse
// variants share. Work is proportional to the blocks that are read.

namespace attnscale {

struct TileLayout;

/// A rule for who sees whom, coarse and fine. The same for all heads; positions count from the first key.
struct BlockPattern {
  int64_t block_length = 64;  ///< c
  /// Key blocks that query block `row` of `rows` reads: ascending, no repeats, all below `rows`.
  std::function<std::vector<int64_t>(int64_t row, int64_t rows)> key_blocks;
  /// Which pairs inside them count: int64 positions that broadcast to bool.
  std::function<Tensor(const Tensor& query, const Tensor& key)> visible;
};

/// What `PatternAttention` does for T = S = `positions`, in one head.
struct PatternWork {
  double pairs = 0;     ///< query-key pairs computed
  double gathered = 0;  ///< keys gathered
};
PatternWork pattern_work(const BlockPattern& pattern, int64_t positions);

/// Attention by a pattern. May be called by several threads at once.
class PatternAttention {
 public:
  explicit PatternAttention(BlockPattern pattern) : pattern_(std::move(pattern)) {}

  /// sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the keys that the pattern lets t see. Queries are the
  /// newest T of the S positions. Rows that read about as many blocks go together (counts are rounded up to
  /// 1, 2, 3, 4, 6, 8, 12, ..., so by at most a third), one fused call for each count. Without padding and for T = S
  /// the kernel of softmax_attention does it where it applies, tile by tile of 64, laid out anew where T is not that of
  /// the call before.
  /// @return [B, H, T, E]; zeros for a query that sees nothing
  /// Cost: 2 B H pattern_work().pairs (D + E) executed FLOPs.
  Tensor forward(const Inputs& in) const;

  const BlockPattern& pattern() const { return pattern_; }

  /// The tiles of `positions` queries and keys, and what `pattern_work` says of them. Of the latest number of positions
  /// they are kept, 1 KB for each pair of tiles that meet.
  struct Tiles {
    int64_t positions = -1;
    std::shared_ptr<const TileLayout> layout = {};
    double pairs = 0;
  };
  Tiles tiles(int64_t positions) const;

 private:
  BlockPattern pattern_;
  mutable std::mutex guard_;
  mutable Tiles latest_;
};

/// FLOPs and activation bytes of `PatternAttention`, of whose pairs `visible` count; no state yet.
Cost pattern_cost(const PatternWork& work, double visible, const Geometry& geometry, const Sizes& sizes);

/// Pairs of positions in the blocks that are read; causal: of those, the pairs that do not look ahead.
double block_pairs(const BlockPattern& pattern, int64_t positions, bool causal);

/// Keys from `behind` before a query to `ahead` after it.
BlockPattern band_pattern(int64_t behind, int64_t ahead);

/// Pairs of such a band among `positions`.
double band_pairs(int64_t positions, int64_t behind, int64_t ahead);

}  // namespace attnscale
