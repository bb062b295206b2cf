// BigBird attention: a window of blocks, global blocks at both ends, and random blocks.
// Zaheer et al. 2020, arXiv:2007.14062, sections 2 and appendix D (blocks; the "ITC" construction).
//
// B batch, H heads, G key-value heads, T queries, S keys, n blocks of c positions, D key width, E value width
//
// Not here: extra global tokens put before the sequence ("ETC"), and random blocks that differ between heads.

#include <algorithm>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// A well-mixed number for each (seed, place): Steele et al. 2014's SplitMix64 finaliser.
uint64_t bigbird_mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the keys of the blocks that the block of t reads:
/// `window_blocks` around it, the first and last `global_blocks`, and `random_blocks` of the others. Global blocks
/// read everything.
///
/// Causal (the paper has an encoder only): the window is the own block and those just before it; the first blocks
/// are global; random ones come from the blocks before. The last blocks are not global, since which ones these are
/// depends on what is still to come. A query sees positions up to its own.
///
/// Random blocks are a fixed function of (seed, layer, row of blocks; bidirectional: number of blocks), so that
/// training, decoding and a restored checkpoint agree; the paper draws them once at random. Heads share them.
class BigBird : public CachedAttention {
 public:
  struct Options {
    int64_t block = 64;
    int64_t window_blocks = 3;
    int64_t random_blocks = 3;
    int64_t global_blocks = 1;
    int64_t seed = 0;
    static Fields fields() {
      return {
          field(&Options::block, "block", "positions in a block").between(1, 65536).in("positions"),
          field(&Options::window_blocks, "window_blocks",
                "blocks near by that a block reads, its own included; bidirectional: half of them on either side")
              .at_least(1)
              .in("blocks"),
          field(&Options::random_blocks, "random_blocks", "further blocks that a block reads").at_least(0).in("blocks"),
          field(&Options::global_blocks, "global_blocks",
                "first and (bidirectional) last blocks that every block reads and that read every block")
              .at_least(0)
              .in("blocks"),
          field(&Options::seed, "seed", "of the choice of random blocks").at_least(0)};
    }
  };

  BigBird(const Options& options, const Geometry& geometry)
      : CachedAttention(geometry), options_(options), attends_(pattern(options, geometry)) {}

  Tensor forward(const Inputs& in) override {
    checked_sizes("bigbird", in, geometry_, true);
    return attends_.forward(in);
  }

  /// The state is the cache: every key and value so far, as a later row may draw any block.
  Tensor decode(const Inputs& in, State& state) override {
    checked_sizes("bigbird", in, geometry_, true);
    return attends_.forward(appended(in, state));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const int64_t keys = in.key.size(2), blocks = ceil_div(keys, options_.block);
    std::vector<std::vector<bool>> reads;
    for (int64_t row = 0; row < blocks; ++row) {
      auto& of_row = reads.emplace_back();
      for (int64_t column = 0; column < blocks; ++column) of_row.push_back(row_reads(row, column, blocks));
    }
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> seen_keys, seen_values;
      for (int64_t i = 0; i < (geometry_.causal ? t + 1 : keys); ++i) {
        if (!reads[static_cast<size_t>(t / options_.block)][static_cast<size_t>(i / options_.block)]) continue;
        if (!is_real(in, b, i)) continue;
        seen_keys.push_back(key[b][g][i]);
        seen_values.push_back(value[b][g][i]);
      }
      return attend(query[b][h][t], seen_keys, seen_values, in.value.size(3));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t keys) const override {
    if (geometry_.causal && key > query) return false;
    return row_reads(query / options_.block, key / options_.block, ceil_div(keys, options_.block));
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto blocks = pattern(options, geometry);
    auto cost = pattern_cost(pattern_work(blocks, sizes.queries), block_pairs(blocks, sizes.queries, geometry.causal),
                             geometry, sizes);
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys);
    return cost;
  }

 private:
  /// The definition, pair by pair, for the oracle and `sees`; only which blocks are random comes from the list.
  bool row_reads(int64_t row, int64_t column, int64_t blocks) const {
    const auto& o = options_;
    bool fixed = false;
    if (geometry_.causal) {
      if (column > row) return false;
      fixed = column > row - o.window_blocks || column < o.global_blocks;
    } else {
      const bool near = column >= row - o.window_blocks / 2 && column <= row + (o.window_blocks - 1) / 2;
      fixed = near || std::min(row, column) < o.global_blocks || std::max(row, column) >= blocks - o.global_blocks;
    }
    if (fixed || o.random_blocks == 0) return fixed;
    const auto list = blocks_read(o, geometry_, row, blocks);
    return std::binary_search(list.begin(), list.end(), column);
  }

  static std::vector<int64_t> blocks_read(const Options& o, const Geometry& geometry, int64_t row, int64_t blocks) {
    const int64_t end = geometry.causal ? row + 1 : blocks;  // columns below this may be read
    const bool is_global = !geometry.causal && (row < o.global_blocks || row >= blocks - o.global_blocks);
    std::vector<int64_t> list;
    const auto add = [&](int64_t first, int64_t last) {
      first = std::max(first, list.empty() ? 0 : list.back() + 1);
      for (int64_t column = first; column < std::min(last, end); ++column) list.push_back(column);
    };
    add(0, is_global ? end : o.global_blocks);
    if (geometry.causal) {
      add(row - o.window_blocks + 1, row + 1);
    } else {
      add(row - o.window_blocks / 2, row + (o.window_blocks - 1) / 2 + 1);
      add(blocks - o.global_blocks, blocks);
    }
    const int64_t wanted = std::min(o.random_blocks, end - std::ssize(list));
    const auto key = bigbird_mixed(static_cast<uint64_t>(o.seed)) ^
                     static_cast<uint64_t>(geometry.causal ? 0 : blocks) << 40 ^ static_cast<uint64_t>(row);
    auto state = bigbird_mixed(key ^ bigbird_mixed(static_cast<uint64_t>(geometry.layer)));
    for (int64_t drawn = 0; drawn < wanted;) {  // most draws are new while few blocks are read
      state = bigbird_mixed(state);
      const auto column = static_cast<int64_t>(state % static_cast<uint64_t>(end));
      const auto at = std::lower_bound(list.begin(), list.end(), column);
      if (at != list.end() && *at == column) continue;
      list.insert(at, column);
      ++drawn;
    }
    return list;
  }

  static BlockPattern pattern(const Options& options, const Geometry& geometry) {
    return {.block_length = options.block,
            .key_blocks = [=](int64_t row, int64_t blocks) { return blocks_read(options, geometry, row, blocks); },
            .visible = [causal = geometry.causal](
                           const Tensor& query,
                           const Tensor& key) { return causal ? key <= query : (key >= 0).logical_or(query >= 0); }};
  }

  Options options_;
  PatternAttention attends_;
};

const Register<BigBird> register_bigbird{{
    .name = "bigbird",
    .family = "sparse",
    .summary = "softmax over a window of blocks, global blocks at the ends and random blocks",
    .equation =
        "y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the blocks that the block of t reads: window_blocks "
        "around it, the first and last global_blocks (which read all), random_blocks others; causal: own and "
        "earlier window blocks, first global blocks, random earlier ones, i <= t",
    .source = "Zaheer et al. 2020, arXiv:2007.14062, section 2 and appendix D; the causal form is ours",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T block (window_blocks + random_blocks + 2 global_blocks) (D + E)",
    .state_complexity = "T (D + E)",
    .samples = {Json{{"block", 4}, {"random_blocks", 2}}, Json{{"block", 8}, {"window_blocks", 2}, {"seed", 7}},
                Json{{"block", 16}, {"window_blocks", 1}, {"random_blocks", 0}, {"global_blocks", 2}}},
    .equalities = {{.statement = "a window of all blocks is softmax",
                    .options = {{"block", 16}, {"window_blocks", 5}},
                    .other = "softmax"},
                   {.statement = "when all blocks are global it is softmax",
                    .options = {{"block", 16}, {"window_blocks", 1}, {"random_blocks", 0}, {"global_blocks", 3}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false},
                   {.statement = "when random blocks cover the past it is softmax",
                    .options = {{"block", 8}, {"window_blocks", 1}, {"random_blocks", 8}, {"global_blocks", 0}},
                    .other = "softmax"}},
}};

}  // namespace
}  // namespace attnscale
