// Block-sparse attention: a layout says which blocks of keys each block of queries reads.
// Child et al. 2019, arXiv:1904.10509, section 5.5 (block-sparse kernels; blocks of 32 there, 16 in the released code).
//
// B batch, H heads, G key-value heads, T queries, S keys, c block length, D key width, E value width
//
// Not here: layouts that differ between heads.

#include <algorithm>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "core/error.h"

namespace attnscale {
namespace {

/// Which key blocks a query block reads. Two forms in text:
///   "1000/1100/1010/1111"  row by row, as many rows as columns; 1: the block is read
///   "local 3 global 1"     any length: the latest 3 blocks, the own included (bidirectional: 3 / 2 before and
///                          (3 - 1) / 2 after), and the first 1; "global" may be left out
class BlockLayout {
 public:
  BlockLayout(const std::string& text, bool causal) : causal_(causal) {
    // By hand: std::regex recurses once per character, and a layout for a long context has many.
    if (named(text)) {
      if (local_ < 1) throw ConfigError(R"(layout "local 0": a block reads itself at least; write "local 1")");
    } else if (!text.empty() && text.find_first_not_of("01/") == std::string::npos) {
      for (size_t at = 0; at <= text.size();) {
        const auto end = std::min(text.find('/', at), text.size());
        rows_.push_back(text.substr(at, end - at));
        at = end + 1;
      }
      check_rows();
    } else {
      throw ConfigError(fmt::format(
          R"(layout "{}": expected rows of 0 and 1 as in "100/110/111", or a pattern as in "local 3 global 1")", text));
    }
  }

  bool reads(int64_t row, int64_t column) const {
    if (!rows_.empty()) return rows_[static_cast<size_t>(row)][static_cast<size_t>(column)] == '1';
    if (causal_) return column <= row && (column > row - local_ || column < global_);
    return (column >= row - local_ / 2 && column <= row + (local_ - 1) / 2) || column < global_;
  }

  std::vector<int64_t> read_by(int64_t row, int64_t num_blocks) const {
    std::vector<int64_t> list;
    const auto add = [&](int64_t first, int64_t end) {
      for (int64_t column = std::max<int64_t>(first, 0); column < std::min(end, num_blocks); ++column)
        if (reads(row, column)) list.push_back(column);
    };
    if (!rows_.empty()) add(0, num_blocks);
    else add(0, global_), add(std::max(global_, row - local_), row + local_);
    return list;
  }

  /// Most blocks that it describes; 0: any number.
  int64_t most_blocks() const { return std::ssize(rows_); }

 private:
  /// Reads "local N" or "local N global M", numbers of up to six digits; false for any other text.
  bool named(std::string_view text) {
    const auto number = [&](std::string_view word, int64_t& value) {
      if (!text.starts_with(word)) return false;
      text.remove_prefix(word.size());
      const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
      if (digits < 1 || digits > 6) return false;
      std::from_chars(text.data(), text.data() + digits, value);
      text.remove_prefix(digits);
      return true;
    };
    return number("local ", local_) && (text.empty() || (number(" global ", global_) && text.empty()));
  }

  void check_rows() const {
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i].size() != rows_.size())
        throw ConfigError(fmt::format("layout: row {} has {} columns and there are {} rows; write a square", i,
                                      rows_[i].size(), rows_.size()));
      if (const auto ahead = rows_[i].find('1', i + 1); causal_ && ahead != std::string::npos)
        throw ConfigError(
            fmt::format("layout: row {} reads block {}, which lies ahead of it; a causal model needs 0 to the right of "
                        "the diagonal",
                        i, ahead));
    }
  }

  bool causal_;
  int64_t local_ = 0, global_ = 0;
  std::vector<std::string> rows_;
};

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the keys of the blocks that the block of t reads,
/// causal: up to t. Queries of a row without blocks give zeros.
class BlockSparse : public CachedAttention {
 public:
  struct Options {
    std::string layout = "local 3 global 1";
    int64_t block = 16;
    static Fields fields() {
      return {field(&Options::layout, "layout",
                    "which key blocks (columns) each query block (row) reads: rows of 0 and 1 as in "
                    "\"100/110/111\", or \"local N\" or \"local N global M\" for any length"),
              field(&Options::block, "block", "positions in a block").between(1, 65536).in("positions")};
    }
  };

  BlockSparse(const Options& options, const Geometry& geometry)
      : CachedAttention(geometry),
        options_(options),
        layout_(options.layout, geometry.causal),
        attends_(pattern(options, layout_, geometry.causal)) {}

  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    try {
      const int64_t most = BlockLayout(options.layout, geometry.causal).most_blocks();
      if (most > 0 && most * options.block < geometry.context)
        return {fmt::format("the layout's {} rows of {} positions cover {} of the context's {}; write {} rows", most,
                            options.block, most * options.block, geometry.context,
                            ceil_div(geometry.context, options.block))};
    } catch (const ConfigError& error) {
      return {error.what()};
    }
    return {};
  }

  Tensor forward(const Inputs& in) override {
    checked_sizes("block_sparse", in, geometry_, true);
    return attends_.forward(in);
  }

  /// The state is the cache: every key and value so far, as a later row may read any block.
  Tensor decode(const Inputs& in, State& state) override {
    checked_sizes("block_sparse", in, geometry_, true);
    return attends_.forward(appended(in, state));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> keys, values;
      for (int64_t i = 0; i < (geometry_.causal ? t + 1 : in.key.size(2)); ++i) {
        if (!layout_.reads(t / options_.block, i / options_.block) || !is_real(in, b, i)) continue;
        keys.push_back(key[b][g][i]);
        values.push_back(value[b][g][i]);
      }
      return attend(query[b][h][t], keys, values, in.value.size(3));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    return (!geometry_.causal || key <= query) && layout_.reads(query / options_.block, key / options_.block);
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto blocks = pattern(options, BlockLayout(options.layout, geometry.causal), geometry.causal);
    auto cost = pattern_cost(pattern_work(blocks, sizes.queries), block_pairs(blocks, sizes.queries, geometry.causal),
                             geometry, sizes);
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys);
    return cost;
  }

 private:
  static BlockPattern pattern(const Options& options, const BlockLayout& layout, bool causal) {
    return {
        .block_length = options.block,
        .key_blocks = [layout](int64_t row, int64_t num_blocks) { return layout.read_by(row, num_blocks); },
        .visible = [causal](const Tensor& query,
                            const Tensor& key) { return causal ? key <= query : (key >= 0).logical_or(query >= 0); }};
  }

  Options options_;
  BlockLayout layout_;
  PatternAttention attends_;
};

const Register<BlockSparse> register_block_sparse{{
    .name = "block_sparse",
    .family = "sparse",
    .summary = "softmax over the key blocks that a layout gives each block of queries",
    .equation = "y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over i with layout[floor(t / block), floor(i / block)] "
                "= 1; causal: i <= t",
    .source = "Child et al. 2019, arXiv:1904.10509, section 5.5",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T block blocks_per_row (D + E)",
    .state_complexity = "T (D + E)",
    .samples = {Json{{"layout", "local 2"}, {"block", 4}}, Json{{"layout", "local 4 global 2"}, {"block", 7}},
                Json{{"layout", "10000/11000/10100/01010/11011"}},
                Json{{"layout", "1000/0000/1010/1101"}, {"block", 20}},
                Json{{"layout", "00100/11000/10011/01111/11111"}, {"block", 13}}},
    .equalities = {{.statement = "a causal layout without zeros is softmax",
                    .options = {{"layout", "10000/11000/11100/11110/11111"}},
                    .other = "softmax"},
                   {.statement = "a layout of ones is softmax",
                    .options = {{"layout", "11111/11111/11111/11111/11111"}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale
