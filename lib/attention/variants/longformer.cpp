// Longformer attention: a window, and a few global positions that everyone sees and that see everyone.
// Beltagy et al. 2020, arXiv:2004.05150, section 3.1 ("global + sliding window").
//
// B batch, H heads, G key-value heads, T queries, S keys, D key width, E value width
//
// Not here: global positions chosen by the task (ours are the first ones, where a classifier's token stands), and
// projections of their own for global attention (section 3.1, "linear projections"): one query, key and value serve
// both.

#include <algorithm>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the window of t and the first `global` positions; a query
/// among these sees all.
///
/// Windows are those of `sliding_window`: causal the latest `window` keys, the own included; bidirectional
/// window / 2 before and (window - 1) / 2 after. Causal global queries see all of the past.
class Longformer : public CachedAttention {
 public:
  struct Options {
    int64_t window = 128;
    int64_t global_positions = 1;
    static Fields fields() {
      return {field(&Options::window, "window",
                    "keys near by that a query sees, its own included; bidirectional: half of them on either side")
                  .at_least(1)
                  .in("positions"),
              field(&Options::global_positions, "global_positions",
                    "first positions, which every query sees and which see every key")
                  .at_least(0)
                  .in("positions")};
    }
  };

  Longformer(const Options& options, const Geometry& geometry)
      : CachedAttention(geometry), options_(options), attends_(pattern(options, geometry.causal)) {}

  Tensor forward(const Inputs& in) override {
    checked_sizes("longformer", in, geometry_, true);
    return attends_.forward(in);
  }

  /// The state is global keys and values, then the latest window - 1 of the others, which the next query needs.
  /// Work of a call: T x (what is kept + T) pairs, or the forward pass's where the state is empty.
  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("longformer", in, geometry_, true);
    const int64_t before = state.length, held = state.tensors.at("key").size(2);
    const auto all = appended(in, state);
    const int64_t global = std::min(options_.global_positions, state.length), kept = held_after(options_, state.length);
    const int64_t newest = kept - global, keys = all.key.size(2);
    for (auto& [name, tensor] : state.tensors)
      tensor = at::cat({tensor.narrow(2, 0, global), tensor.narrow(2, keys - newest, newest)}, 2);
    if (before == 0) return attends_.forward(all);

    // Positions of what is held: global ones, then the latest; then the new ones.
    const auto options = torch::TensorOptions().dtype(torch::kInt64).device(in.query.device());
    const int64_t first = std::min(options_.global_positions, before);
    const auto key_at =
        at::cat({at::arange(first, options), at::arange(before - (held - first), state.length, options)});
    const auto query_at = at::arange(before, before + sizes.queries, options).unsqueeze(1);  // [T, 1]
    return softmax_attention(all.query, all.key, all.value, false, attends_.pattern().visible(query_at, key_at));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> keys, values;
      for (int64_t i = 0; i < in.key.size(2); ++i) {
        const bool near = geometry_.causal ? t - i < options_.window
                                           : t - i <= options_.window / 2 && i - t <= (options_.window - 1) / 2;
        const bool global = i < options_.global_positions || t < options_.global_positions;
        if (!(near || global) || (geometry_.causal && i > t) || !is_real(in, b, i)) continue;
        keys.push_back(key[b][g][i]);
        values.push_back(value[b][g][i]);
      }
      return attend(query[b][h][t], keys, values, in.value.size(3));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    const auto [behind, ahead] = window_reach(options_.window, geometry_.causal);
    if (geometry_.causal && key > query) return false;
    return std::min(query, key) < options_.global_positions || (key >= query - behind && key <= query + ahead);
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto work = pattern_work(pattern(options, geometry.causal), sizes.queries);
    auto cost = pattern_cost(work, visible_pairs(options, geometry.causal, sizes.queries), geometry, sizes);
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, held_after(options, sizes.keys));
    return cost;
  }

 private:
  static double visible_pairs(const Options& options, bool causal, int64_t positions) {
    const auto [behind, ahead] = window_reach(options.window, causal);
    double pairs = 0;
    for (int64_t t = 0; t < positions; ++t) {
      const int64_t end = std::min(positions, t + ahead + 1), begin = std::max<int64_t>(0, t - behind);
      const bool global = t < options.global_positions;
      if (global) pairs += static_cast<double>(causal ? t + 1 : positions);
      else pairs += static_cast<double>(end - begin + std::min(options.global_positions, begin));
    }
    return pairs;
  }

  static int64_t held_after(const Options& options, int64_t positions) {
    const int64_t global = std::min(options.global_positions, positions);
    return global + std::min(options.window - 1, positions - global);
  }

  static BlockPattern pattern(const Options& options, bool causal) {
    const auto [behind, ahead] = window_reach(options.window, causal);
    const auto band = band_pattern(behind, ahead);
    const int64_t c = band.block_length, global = options.global_positions;
    return {.block_length = c,
            .key_blocks =
                [=](int64_t row, int64_t rows) {
                  auto near = band.key_blocks(row, rows);
                  const bool sees_all = row * c < global;
                  const int64_t first = near.front(), last = near.back();
                  std::vector<int64_t> list;
                  for (int64_t block = 0; block < std::min(sees_all ? first : ceil_div(global, c), first); ++block)
                    list.push_back(block);
                  list.insert(list.end(), near.begin(), near.end());
                  // Ahead: what a global query sees, and global blocks.
                  for (int64_t block = last + 1;
                       !causal && block < (sees_all ? rows : std::min(rows, ceil_div(global, c))); ++block)
                    list.push_back(block);
                  return list;
                },
            .visible =
                [=](const Tensor& query, const Tensor& key) {
                  const auto seen = band.visible(query, key).logical_or(key < global).logical_or(query < global);
                  return causal ? seen.logical_and(key <= query) : seen;
                }};
  }

  Options options_;
  PatternAttention attends_;
};

const Register<Longformer> register_longformer{{
    .name = "longformer",
    .family = "sparse",
    .summary = "softmax over a window and a few global positions, which see everything; global positions have no "
               "projections of their own",
    .equation = "y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over t - window < i <= t, and all i where i or t is "
                "among the first global_positions; causal: i <= t",
    .source = "Beltagy et al. 2020, arXiv:2004.05150, section 3.1",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T (window + global_positions) (D + E)",
    .state_complexity = "(window + global_positions) (D + E)",
    .samples = {Json{{"window", 7}, {"global_positions", 2}}, Json{{"window", 12}, {"global_positions", 20}},
                Json{{"window", 32}}},
    .equalities = {{.statement = "without global positions it is sliding_window",
                    .options = {{"window", 9}, {"global_positions", 0}},
                    .other = "sliding_window",
                    .other_options = {{"window", 9}}},
                   {.statement = "a window of T keys is softmax", .options = {{"window", 65}}, .other = "softmax"},
                   {.statement = "when all positions are global it is softmax",
                    .options = {{"window", 3}, {"global_positions", 65}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale
