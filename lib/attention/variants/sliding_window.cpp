// Softmax attention over the latest `window` positions, gathered block by block, so that work and
// memory grow with T x window. Beltagy et al. 2020, arXiv:2004.05150, section 3.1.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, n blocks of c queries,
// W keys that a block gathers, D key width, E value width
//
// Not here: dilation and global positions, which are other variants.

#include <algorithm>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>

#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "tensor/kernels/attention_kernel.h"

namespace attnscale {
namespace {

/// Below this many queries a block is too small a matrix product to be worth its overhead.
constexpr int64_t smallest_block = 16;

/// sum_{t < T} min(t, most)
double capped_sum(int64_t positions, int64_t most) {
  const double growing = static_cast<double>(std::min(positions, most + 1));
  return growing * (growing - 1) / 2 + (static_cast<double>(positions) - growing) * static_cast<double>(most);
}

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the window of t.
///
/// Causal: the latest `window` keys, t - window + 1 .. t, the query's own included. Bidirectional: as many,
/// split on both sides: window / 2 before and (window - 1) / 2 after (rounded down) and the own.
/// (The authors' code keeps window + 1 keys.)
///
/// By the tiled kernel where it runs (lib/tensor/kernels/attention_kernel.h), otherwise as follows, in which costs are
/// stated. Queries go in blocks of at most max(window, 16); a block gathers its own keys and those before
/// (and after) it that its windows reach, and hides what lies outside a query's window. One block
/// takes all where that is less work, which needs T < 2 window.
class SlidingWindow : public CachedAttention {
 public:
  struct Options {
    int64_t window = 128;
    static Fields fields() {
      return {field(&Options::window, "window",
                    "keys that a query sees, its own included; bidirectional: half of them on either side")
                  .at_least(1)
                  .in("positions")};
    }
  };

  SlidingWindow(const Options& options, const Geometry& geometry) : CachedAttention(geometry), options_(options) {}

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("sliding_window", in, geometry_, true);
    if (geometry_.causal && sizes.queries <= options_.window && !in.key_padding.defined())
      return softmax_attention(in.query, in.key, in.value, /*causal=*/true);
    return windowed(in);
  }

  /// The state is the last `window` keys and values, [B, G, at most window, D] and [.., E].
  Tensor decode(const Inputs& in, State& state) override {
    checked_sizes("sliding_window", in, geometry_, true);
    auto& key = state.tensors.at("key");
    auto& value = state.tensors.at("value");
    const auto all = appended(in, state);
    const int64_t keys = all.key.size(2), kept = std::min(keys, options_.window);
    // Cloned, as a view would keep what has left the window in memory.
    key = all.key.narrow(2, keys - kept, kept).clone();
    value = all.value.narrow(2, keys - kept, kept).clone();
    return windowed(all);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> keys, values;
      for (int64_t i = 0; i < in.key.size(2); ++i) {
        const bool in_window = geometry_.causal ? i > t - options_.window && i <= t
                                                : i >= t - options_.window / 2 && i <= t + (options_.window - 1) / 2;
        if (!in_window || !is_real(in, b, i)) continue;
        keys.push_back(key[b][g][i]);
        values.push_back(value[b][g][i]);
      }
      return attend(query[b][h][t], keys, values, in.value.size(3));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    const auto [behind, ahead] = window_reach(options_.window, geometry_.causal);
    return key >= query - behind && key <= query + ahead;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto [behind, ahead] = window_reach(options.window, geometry.causal);
    const auto plan = plan_for(options, geometry.causal, sizes.queries, 0);
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double both = geometry.head_dim + geometry.value_dim, n = plan.blocks.count;
    const double pairs = sizes.queries + capped_sum(sizes.queries, behind) + capped_sum(sizes.queries, ahead);
    const double computed = static_cast<double>(plan.blocks.padded()) * plan.width();
    Cost cost;
    cost.algorithmic_flops = 2 * batch * heads * pairs * both;
    cost.executed_flops = 2 * batch * heads * computed * both;
    // Gathered keys and values, the mask, one normaliser per query; unequal widths keep the weights too.
    double kept = batch * groups * n * plan.width() * both + computed + batch * heads * plan.blocks.padded();
    if (geometry.head_dim != geometry.value_dim) kept += batch * heads * computed;
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, std::min(sizes.keys, options.window));
    return cost;
  }

 private:
  /// How queries are cut, and how many keys before and after a block it gathers.
  struct Plan {
    Blocks blocks;
    int64_t lead = 0, trail = 0;
    int64_t width() const { return lead + blocks.length + trail; }  // W
  };

  /// @param offset  keys before the first query's own
  static Plan plan_for(const Options& options, bool causal, int64_t queries, int64_t offset) {
    const auto [behind, ahead] = window_reach(options.window, causal);
    const Plan whole{.blocks = {1, queries}, .lead = std::min(behind, offset)};
    const auto blocks = even_blocks(queries, std::max(options.window, smallest_block));
    const int64_t others = blocks.padded() - blocks.length;
    const Plan cut{.blocks = blocks, .lead = std::min(behind, offset + others), .trail = std::min(ahead, others)};
    return queries * whole.width() <= blocks.padded() * cut.width() ? whole : cut;
  }

  /// What each block gathers: [B, G, S, D] -> [B, G, n, W, D], zeros (false) outside the sequence.
  static Tensor gathered(const Tensor& x, const Plan& plan, int64_t offset) {
    const auto [n, c] = plan.blocks;
    const int64_t before = ceil_div(plan.lead, c), after = ceil_div(plan.trail, c);  // whole blocks
    const int64_t all = before + n + after, front = before * c - offset;
    const auto blocks =
        pad_positions(x, front, all * c - front - x.size(2)).reshape({x.size(0), x.size(1), all, c, x.size(3)});
    // Block i lies next to its neighbours i - before .. i + after; the outermost give only what is needed.
    std::vector<Tensor> pieces;
    for (int64_t j = 0; j < before + 1 + after; ++j) {
      auto piece = blocks.narrow(2, j, n);
      if (j == 0 && before > 0) piece = piece.narrow(3, before * c - plan.lead, c - (before * c - plan.lead));
      if (j == before + after && after > 0) piece = piece.narrow(3, 0, plan.trail - (after - 1) * c);
      pieces.push_back(piece);
    }
    return pieces.size() == 1 ? pieces.front() : at::cat(pieces, 3);
  }

  /// Which gathered keys a query sees: bool [1 or B G, n, R c, W].
  Tensor visible(const Inputs& in, const Plan& plan, int64_t offset, const CallSizes& sizes) const {
    const auto [behind, ahead] = window_reach(options_.window, geometry_.causal);
    const auto [n, c] = plan.blocks;
    const auto options = torch::TensorOptions().device(in.query.device());
    const auto key = at::arange(-plan.lead, c + plan.trail, options.dtype(torch::kInt64));  // [W]
    const auto distance = key - at::arange(c, options.dtype(torch::kInt64)).unsqueeze(1);   // [c, W]
    const auto band = distance.ge(-behind).logical_and(distance.le(ahead));                 // [c, W]
    const auto real =
        in.key_padding.defined() ? in.key_padding : at::ones({1, in.key.size(2)}, options.dtype(torch::kBool));
    const auto present = gathered(per_key(real), plan, offset).mT();  // [B, 1, n, 1, W]
    const int64_t shared = sizes.heads / sizes.kv_heads;
    const auto mask = present.logical_and(band).unsqueeze(3);  // [B, 1, n, 1, c, W]
    const int64_t groups = in.key_padding.defined() ? sizes.kv_heads : 1;
    return mask.expand({-1, groups, -1, shared, -1, -1}).reshape({real.size(0) * groups, n, shared * c, plan.width()});
  }

  /// Queries are the newest T of S positions.
  Tensor windowed(const Inputs& in) const {
    const auto sizes = checked_sizes("sliding_window", in, geometry_, false);
    const int64_t offset = sizes.keys - sizes.queries;
    const auto plan = plan_for(options_, geometry_.causal, sizes.queries, offset);
    if (const auto dtype = attention_dtype(in.query, in.key, in.value); dtype && !in.key_padding.defined()) {
      const auto [behind, ahead] = window_reach(options_.window, geometry_.causal);
      const double pairs = static_cast<double>(plan.blocks.padded()) * static_cast<double>(plan.width());
      return attention_kernel(in.query, in.key, in.value, {behind, ahead}, pairs, *dtype);
    }
    // Blocks stand where heads usually do, so that the fused kernel takes them as they are.
    const auto query = query_blocks(in.query, sizes.kv_heads, plan.blocks).flatten(0, 1);  // [B G, n, R c, D]
    const auto key = gathered(in.key, plan, offset).flatten(0, 1);                         // [B G, n, W, D]
    const auto value = gathered(in.value, plan, offset).flatten(0, 1);                     // [B G, n, W, E]
    const auto output = softmax_attention(query, key, value, false, visible(in, plan, offset, sizes));
    return joined_blocks(output.unflatten(0, {sizes.batch, sizes.kv_heads}), sizes.heads, sizes.queries);
  }

  Options options_;
};

const Register<SlidingWindow> register_sliding_window{{
    .name = "sliding_window",
    .family = "sparse",
    .summary = "softmax over the latest `window` positions; the state stops growing there",
    .equation = "y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i, t - window < i <= t; "
                "bidirectional: t - floor(window / 2) <= i <= t + floor((window - 1) / 2)",
    .source = "Beltagy et al. 2020, arXiv:2004.05150, section 3.1; dilation omitted",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T window (D + E)",
    .state_complexity = "window (D + E)",
    .samples = {Json{{"window", 7}}, Json{{"window", 32}}, Json{{"window", 50}}},
    .equalities = {{.statement = "a window of T keys or more is softmax",
                    .options = {{"window", 65}},
                    .other = "softmax"},
                   {.statement = "a bidirectional window that reaches both ends is softmax",
                    .options = {{"window", 130}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale
