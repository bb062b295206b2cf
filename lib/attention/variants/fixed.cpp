// Fixed sparse attention: the own block, and the last columns of every other block, which summarise it.
// Child et al. 2019, arXiv:1904.10509, section 4.3 ("fixed attention").
//
// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, n blocks of l positions, c summary columns,
// W = l + n c keys that a block reads, D key width, E value width
//
// Not here: the two patterns in different heads or layers; a head reads their union (section 5.1, "merged head").

#include <algorithm>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over i in the block of t, and over the last `summary` positions of
/// all other blocks; causal: i <= t.
///
/// Each block of queries meets its own keys and the summary keys of all blocks, side by side in one fused call;
/// those of its own block are hidden there. So causal work is twice what is needed for the summaries, as a masked
/// square is. The work grows with T^2 summary / block, and is T^1.5 when the block grows as sqrt(T).
class Fixed : public CachedAttention {
 public:
  struct Options {
    int64_t block = 128;
    int64_t summary = 16;
    static Fields fields() {
      return {field(&Options::block, "block", "positions in a block: the paper's stride l")
                  .between(1, 65536)
                  .in("positions"),
              field(&Options::summary, "summary", "last positions of a block that all others read: the paper's c")
                  .between(1, 65536)
                  .in("positions")};
    }
  };

  Fixed(const Options& options, const Geometry& geometry) : CachedAttention(geometry), options_(options) {}

  static std::vector<std::string> refusals(const Options& options, const Geometry&) {
    if (options.summary <= options.block) return {};
    return {fmt::format("summary {} is more than the block's {} positions; set it to {} at most", options.summary,
                        options.block, options.block)};
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("fixed", in, geometry_, true);
    const Blocks blocks{ceil_div(sizes.queries, options_.block), std::min(options_.block, sizes.queries)};
    const auto [n, l] = blocks;
    const auto query = query_blocks(in.query, sizes.kv_heads, blocks).flatten(0, 1);  // [B G, n, R l, D]
    const auto with_summaries = [&](const Tensor& x) {                                // [B, G, S, D] -> [B, G, n, W, D]
      const auto own = key_blocks(x, blocks);
      const auto shared = summaries(own).unsqueeze(2).expand({-1, -1, n, -1, -1});
      return at::cat({own, shared}, 3);
    };
    const auto key = with_summaries(in.key).flatten(0, 1), value = with_summaries(in.value).flatten(0, 1);
    auto mask = visible(blocks, sizes.queries, in.query.device()).unsqueeze(0);  // [1, n, l, W]
    if (in.key_padding.defined()) {
      const auto real = with_summaries(per_key(in.key_padding)).squeeze(1).mT();  // [B, n, 1, W]
      mask = mask.logical_and(real).repeat_interleave(sizes.kv_heads, 0);
    }
    if (sizes.heads > sizes.kv_heads)
      mask = mask.unsqueeze(2).expand({-1, -1, sizes.heads / sizes.kv_heads, -1, -1}).flatten(2, 3);
    const auto output = softmax_attention(query, key, value, false, mask);
    return joined_blocks(output.unflatten(0, {sizes.batch, sizes.kv_heads}), sizes.heads, sizes.queries);
  }

  /// The state is summaries of the complete blocks, then the keys and values of the open one.
  /// Work of a call: T x (what is held + T) pairs, or the forward pass's where the state is empty.
  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("fixed", in, geometry_, true);
    const int64_t l = options_.block, c = options_.summary, before = state.length;
    const auto all = appended(in, state);
    const auto options = torch::TensorOptions().dtype(torch::kInt64).device(in.query.device());
    const auto position = [&](int64_t complete, int64_t end) {  // of what is held, when `complete` blocks are
      const auto summary =
          (at::arange(complete, options).unsqueeze(1) * l + (l - c) + at::arange(c, options)).flatten();
      return at::cat({summary, at::arange(complete * l, end, options)});
    };
    const auto key_at = position(before / l, state.length);                        // [S held]
    const auto query_at = at::arange(before, state.length, options).unsqueeze(1);  // [T, 1]
    const auto stays = (key_at % l >= l - c).logical_or(key_at >= state.length / l * l).nonzero().squeeze(1);
    for (auto& [name, tensor] : state.tensors) tensor = tensor.index_select(2, stays);
    if (before == 0) return forward(in);
    const auto block = [&](const Tensor& at) { return at.div(l, "floor"); };
    const auto mask =
        (key_at <= query_at).logical_and((key_at % l >= l - c).logical_or(block(key_at).eq(block(query_at))));
    return softmax_attention(in.query, all.key, all.value, false, mask.view({sizes.queries, -1}));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const int64_t l = options_.block;
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> keys, values;
      for (int64_t i = 0; i < (geometry_.causal ? t + 1 : in.key.size(2)); ++i) {
        if ((i / l != t / l && i % l < l - options_.summary) || !is_real(in, b, i)) continue;
        keys.push_back(key[b][g][i]);
        values.push_back(value[b][g][i]);
      }
      return attend(query[b][h][t], keys, values, in.value.size(3));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    const int64_t l = options_.block;
    return (!geometry_.causal || key <= query) && (key / l == query / l || key % l >= l - options_.summary);
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const int64_t l = options.block, c = options.summary, full = sizes.queries / l, rest = sizes.queries % l;
    const int64_t n = ceil_div(sizes.queries, l), length = std::min(l, sizes.queries),
                  columns = num_columns(options, n, length);
    const auto square = [&](double x) { return geometry.causal ? x * (x + 1) / 2 : x * x; };
    const double f = static_cast<double>(full), summaries = static_cast<double>(c);
    // The own block, and the summaries of the full blocks (before).
    double visible = f * square(static_cast<double>(l)) + square(static_cast<double>(rest)) +
                     static_cast<double>(rest) * f * summaries;
    visible += static_cast<double>(l) * summaries * f * (f - 1) * (geometry.causal ? 0.5 : 1);
    if (!geometry.causal) visible += f * static_cast<double>(l * std::max<int64_t>(0, rest - (l - c)));
    PatternWork work{.gathered = static_cast<double>(n) * static_cast<double>(length + columns)};
    work.pairs = work.gathered * static_cast<double>(length);
    auto cost = pattern_cost(work, visible, geometry, sizes);
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys / l * c + sizes.keys % l);
    return cost;
  }

 private:
  /// Summary columns of n blocks of `length` (shorter than a block when there is only one, which needs none).
  static int64_t num_columns(const Options& options, int64_t n, int64_t length) {
    return length < options.block || n == 1 ? 0 : n * options.summary;
  }

  /// Last columns of every block: [B, G, n, l, D] -> [B, G, n c, D]
  Tensor summaries(const Tensor& own) const {
    const int64_t n = own.size(2), l = own.size(3), c = num_columns(options_, n, l) / n;
    return own.narrow(3, l - c, c).flatten(2, 3);
  }

  /// Which of the own keys and summaries a query sees: bool [n, l, W].
  Tensor visible(const Blocks& blocks, int64_t positions, torch::Device device) const {
    const auto [n, l] = blocks;
    const int64_t c = num_columns(options_, n, l) / n;
    const auto options = torch::TensorOptions().dtype(torch::kInt64).device(device);
    const auto query = at::arange(n * l, options).view({n, l, 1});
    const auto own_at = at::arange(n * l, options).view({n, 1, l});
    const auto column =
        (at::arange(n, options).unsqueeze(1) * l + (l - c) + at::arange(c, options)).view({1, 1, n * c});
    const auto row = at::arange(n, options).view({n, 1, 1});
    auto own = (own_at < positions).expand({n, l, l});
    auto shared = column.div(l, "floor").ne(row).logical_and(column < positions);  // [n, 1, n c]
    if (geometry_.causal) {
      own = own.logical_and(own_at <= query);
      shared = shared.logical_and(column < row * l);
    }
    return at::cat({own, shared.expand({n, l, n * c})}, 2);
  }

  Options options_;
};

const Register<Fixed> register_fixed{{
    .name = "fixed",
    .family = "sparse",
    .summary = "softmax over the own block and the last columns of all others, which summarise them",
    .equation = "y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over i with floor(i / block) = floor(t / block) or "
                "i mod block >= block - summary; causal: i <= t",
    .source = "Child et al. 2019, arXiv:1904.10509, section 4.3; both patterns in each head",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T block + T^2 summary / block",
    .state_complexity = "T summary / block + block",
    .samples = {Json{{"block", 8}, {"summary", 2}}, Json{{"block", 13}, {"summary", 1}},
                Json{{"block", 30}, {"summary", 7}}},
    .equalities = {{.statement = "a block of T positions is softmax", .options = {{"block", 65}}, .other = "softmax"},
                   {.statement = "blocks that are all summary are softmax",
                    .options = {{"block", 5}, {"summary", 5}},
                    .other = "softmax"},
                   {.statement = "blocks that are all summary are softmax, bidirectional",
                    .options = {{"block", 5}, {"summary", 5}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale
