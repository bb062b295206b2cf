// Mixture of block attention: each query attends to its own block and to the few others whose mean key suits it best.
// Lu et al. 2025, arXiv:2502.13189, section 2.2 (MoBA).
//
// B batch, H heads, G key-value heads, T queries, S keys, n blocks of c positions, J = blocks chosen beside the own,
// D key width, E value width
//
// Not here: switching between this and full attention by layer (section 3.2), which layers of a model can do.

#include <algorithm>
#include <limits>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "attention/routed_blocks.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the own block and the top_blocks - 1 others with the
/// largest q_t . mean(k of the block); causal: of the blocks before, and up to t in the own one.
///
/// The own block counts among `top_blocks` and is always there, as in the paper. A block's mean is over its real
/// keys; blocks without any are not chosen. The choice has no gradient. (The paper has the causal form only.)
class BlockTopK : public Attention {
 public:
  struct Options {
    int64_t block = 64;
    int64_t top_blocks = 4;
    static Fields fields() {
      return {field(&Options::block, "block", "positions in a block").between(1, 65536).in("positions"),
              field(&Options::top_blocks, "top_blocks", "blocks that a query attends to, its own included")
                  .at_least(1)
                  .in("blocks")};
    }
  };

  BlockTopK(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {}

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("block_top_k", in, geometry_, true);
    const FullPrecision sums_stay_float32;
    const auto type = accumulation_type(in.value.scalar_type());
    const Inputs exact{
        .query = in.query.to(type), .key = in.key.to(type), .value = in.value.to(type), .key_padding = in.key_padding};
    Tensor chosen;
    if (const int64_t each = num_chosen(options_, sizes.queries); each > 0) {
      const torch::NoGradGuard choosing_has_no_gradient;
      const auto [means, any_real] = block_means(exact.key, in.key_padding);
      chosen = best(exact.query, means, any_real, 0, each);
    }
    return routed_attention(exact, options_.block, geometry_.causal, chosen).to(in.value.scalar_type());
  }

  /// Every key and value so far, and the mean key of each complete block.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    auto state =
        geometry_.causal ? empty_key_value_state(geometry_, batch, options) : Attention::new_state(batch, options);
    const auto type = accumulation_type(c10::typeMetaToScalarType(options.dtype()));
    state.tensors["means"] = at::empty({batch, geometry_.num_kv_heads, 0, geometry_.head_dim}, options.dtype(type));
    return state;
  }

  /// From an empty state as in `forward`; later, all logits of the new queries are computed, and those outside the
  /// chosen blocks are hidden.
  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("block_top_k", in, geometry_, true);
    const FullPrecision sums_stay_float32;
    const int64_t before = state.length, c = options_.block;
    const auto all = appended(in, state);
    auto& means = state.tensors.at("means");
    if (const int64_t held = means.size(2), complete = state.length / c; complete > held) {
      const auto fresh = all.key.narrow(2, held * c, (complete - held) * c).to(means.scalar_type());
      means = at::cat({means, fresh.unflatten(2, {-1, c}).mean(3)}, 2);
    }
    if (before == 0) return forward(in);
    const int64_t blocks = ceil_div(state.length, c), each = std::min(options_.top_blocks - 1, means.size(2));
    Tensor chosen;  // [B, H, T, J]
    if (each > 0) chosen = best(in.query.to(means.scalar_type()), means, {}, before, each, blocks);
    const auto seen = routed_mask(chosen, sizes.queries, state.length, c, in.query.device());
    return softmax_attention(in.query, all.key, all.value, false, seen);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const int64_t c = options_.block, keys = in.key.size(2), blocks = ceil_div(keys, c);
    const auto members = [&](int64_t b, int64_t block, int64_t end) {
      std::vector<int64_t> real;
      for (int64_t i = block * c; i < std::min(end, (block + 1) * c); ++i)
        if (is_real(in, b, i)) real.push_back(i);
      return real;
    };
    // Mean keys [D] by batch row, head and block; undefined without real keys.
    std::vector<std::vector<std::vector<Tensor>>> means;
    for (int64_t b = 0; b < in.key.size(0); ++b) {
      auto& of_row = means.emplace_back();
      for (int64_t g = 0; g < in.key.size(1); ++g) {
        auto& of_head = of_row.emplace_back();
        for (int64_t block = 0; block < blocks; ++block) {
          std::vector<Tensor> rows;
          for (const int64_t i : members(b, block, keys)) rows.push_back(key[b][g][i].detach());
          of_head.push_back(rows.empty() ? Tensor() : at::stack(rows).mean(0));
        }
      }
    }
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<std::pair<double, int64_t>> ranked;
      for (int64_t block = 0; block < (geometry_.causal ? t / c : blocks); ++block)
        if (block != t / c && means[b][g][block].defined())
          ranked.emplace_back(-at::dot(query[b][h][t].detach(), means[b][g][block]).item<double>(), block);
      std::sort(ranked.begin(), ranked.end());
      if (std::ssize(ranked) > options_.top_blocks - 1) ranked.resize(static_cast<size_t>(options_.top_blocks - 1));
      ranked.emplace_back(0, t / c);
      std::vector<Tensor> keys_seen, values_seen;
      for (const auto& [score, block] : ranked)
        for (const int64_t i : members(b, block, geometry_.causal ? t + 1 : keys)) {
          keys_seen.push_back(key[b][g][i]);
          values_seen.push_back(value[b][g][i]);
        }
      return attend(query[b][h][t], keys_seen, values_seen, in.value.size(3));
    });
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const int64_t each = num_chosen(options, sizes.queries), c = options.block, blocks = ceil_div(sizes.queries, c);
    const double batch = sizes.batch, heads = geometry.num_heads, d = geometry.head_dim, both = d + geometry.value_dim;
    const auto work = routed_work(geometry, sizes.queries, c, each);
    double visible = 0, gated = 0;  // pairs in a head
    for (int64_t row = 0; row < blocks; ++row) {
      const double length = static_cast<double>(std::min(c, sizes.queries - row * c));
      const int64_t others = geometry.causal ? row : blocks - 1;
      visible += geometry.causal ? length * (length + 1) / 2 : length * length;
      visible += length * static_cast<double>(std::min(each, others) * std::min(c, sizes.queries));
      if (each > 0) gated += length * static_cast<double>(others);
    }
    Cost cost;
    cost.algorithmic_flops = 2 * batch * heads * (visible * both + gated * d);
    cost.executed_flops = 2 * batch * work.pairs() * both;
    if (each > 0) cost.executed_flops += 2 * batch * heads * static_cast<double>(sizes.queries) * blocks * d;
    cost.activation_bytes = static_cast<int64_t>(float_bytes * batch * routed_kept(geometry, sizes.queries, c, each));
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys) +
                       float_bytes * sizes.batch * geometry.num_kv_heads * (sizes.keys / c) * geometry.head_dim;
    return cost;
  }

 private:
  static int64_t num_chosen(const Options& options, int64_t positions) {
    return std::min(options.top_blocks, ceil_div(positions, options.block)) - 1;
  }

  struct Means {
    Tensor mean;      // [B, G, n, D] over real keys
    Tensor any_real;  // bool [B, n]; undefined: all
  };
  Means block_means(const Tensor& key, const Tensor& key_padding) const {
    const Blocks blocks{ceil_div(key.size(2), options_.block), options_.block};
    const auto real = key_padding.defined() ? per_key(key_padding)
                                            : at::ones({1, 1, key.size(2), 1}, key.options().dtype(torch::kBool));
    const auto by_block = key_blocks(real, blocks);                                       // [B, 1, n, c, 1]
    const auto sums = key_blocks(key.masked_fill(real.logical_not(), 0), blocks).sum(3);  // [B, G, n, D]
    const auto mean = sums / by_block.sum(3).clamp_min(1);
    return {mean, key_padding.defined() ? by_block.any(3).squeeze(-1).squeeze(1) : Tensor()};
  }

  /// The `each` best other blocks of queries that begin at position `first`: [B, H, T, J], `none` where there are
  /// fewer.
  /// @param none  what stands for no block; 0: the number of means
  Tensor best(const Tensor& query, const Tensor& means, const Tensor& any_real, int64_t first, int64_t each,
              int64_t none = 0) const {
    const int64_t batch = query.size(0), heads = query.size(1), queries = query.size(2);
    const int64_t groups = means.size(1), blocks = means.size(2);
    const auto grouped = query.reshape({batch, groups, heads / groups * queries, query.size(3)});
    auto scores = at::matmul(grouped, means.mT()).view({batch, heads, queries, blocks});
    const auto options = torch::TensorOptions().dtype(torch::kInt64).device(query.device());
    const auto own = at::arange(first, first + queries, options).div(options_.block, "floor").unsqueeze(1);  // [T, 1]
    const auto block = at::arange(blocks, options);
    auto out = geometry_.causal ? block >= own : block.eq(own);  // [T, n]
    if (any_real.defined()) out = out.logical_or(any_real.logical_not().view({batch, 1, 1, blocks}));
    scores = scores.masked_fill(out, -std::numeric_limits<double>::infinity());
    const auto [score, index] = at::topk(scores, each, -1);
    return index.masked_fill(score == -std::numeric_limits<double>::infinity(), none > 0 ? none : blocks);
  }

  Options options_;
};

const Register<BlockTopK> register_block_top_k{{
    .name = "block_top_k",
    .family = "sparse",
    .summary = "softmax over the own block and the blocks whose mean keys suit the query best",
    .equation = "y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the own block and the top_blocks - 1 other "
                "(causal: earlier) blocks with the largest q_t . mean(k in block); causal: i <= t",
    .source = "Lu et al. 2025, arXiv:2502.13189, section 2.2; the bidirectional form is ours",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads,
               Trait::content_dependent},
    .float32_sums = Float32Sums::always,
    .time_complexity = "T block top_blocks (D + E) + T^2 D / block; top_blocks = 1: T block (D + E)",
    .state_complexity = "T (D + E) + T D / block",
    .samples = {Json{{"block", 4}, {"top_blocks", 3}}, Json{{"block", 9}, {"top_blocks", 2}},
                Json{{"block", 16}, {"top_blocks", 1}}},
    .equalities = {{.statement = "when all blocks are chosen it is softmax",
                    .options = {{"block", 8}, {"top_blocks", 9}},
                    .other = "softmax"},
                   {.statement = "when all blocks are chosen it is softmax, bidirectional",
                    .options = {{"block", 8}, {"top_blocks", 9}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale
