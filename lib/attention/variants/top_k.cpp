// Explicit sparse attention: softmax over the k largest logits of each query.
// Zhao et al. 2019, arXiv:1912.11637, section 3.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, D key width, E value width
//
// Not cheaper than softmax: every logit is needed to find the largest. Its use is to ask how few keys suffice.

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the visible keys whose logit is not below the k-th largest
/// visible one. Logits that tie with it all stay, as in the paper, which masks what is below the k-th. The selection
/// itself has no gradient.
///
/// The square of logits and weights is computed in full, in float32 under bfloat16.
class TopK : public CachedAttention {
 public:
  struct Options {
    int64_t k = 32;
    static Fields fields() {
      return {field(&Options::k, "k", "keys that a query keeps; all when fewer are visible").at_least(1).in("keys")};
    }
  };

  TopK(const Options& options, const Geometry& geometry) : CachedAttention(geometry), options_(options) {}

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("top_k", in, geometry_, false);
    const FullPrecision sums_stay_float32;
    Tensor mask;
    if (geometry_.causal) mask = causal_mask(sizes.queries, sizes.keys, in.query.device());
    const auto visible = visible_keys(mask, in.key_padding);  // [T, S], [B, 1, 1 or T, S] or undefined
    const auto type = accumulation_type(in.value.scalar_type());
    const double scale = 1 / std::sqrt(static_cast<double>(sizes.key_width));
    const auto query = query_blocks(in.query.to(type) * scale, sizes.kv_heads, {1, sizes.queries}).squeeze(2);
    const auto logits = at::matmul(query, in.key.to(type).mT())
                            .view({sizes.batch, sizes.heads, sizes.queries, sizes.keys});  // [B, H, T, S]
    const auto weights = at::softmax(kept_logits(logits, visible), -1);
    auto output = at::matmul(weights.view({sizes.batch, sizes.kv_heads, -1, sizes.keys}), in.value.to(type))
                      .view({sizes.batch, sizes.heads, sizes.queries, sizes.value_width});
    if (visible.defined()) output = output.masked_fill(visible.any(-1, true).logical_not(), 0);
    return output.to(in.value.scalar_type());
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const int64_t keys = in.key.size(2), queries = in.query.size(2);
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<std::pair<double, int64_t>> visible;
      const int64_t newest = geometry_.causal ? keys - queries + t : keys - 1;
      for (int64_t i = 0; i <= newest; ++i)
        if (is_real(in, b, i))
          visible.emplace_back(-query[b][h][t].detach().dot(key[b][g][i].detach()).item<double>(), i);
      std::sort(visible.begin(), visible.end());  // largest first
      if (std::ssize(visible) > options_.k) visible.resize(static_cast<size_t>(options_.k));
      std::vector<Tensor> chosen_keys, chosen_values;
      for (const auto& [negative, i] : visible) {
        chosen_keys.push_back(key[b][g][i]);
        chosen_values.push_back(value[b][g][i]);
      }
      return attend(query[b][h][t], chosen_keys, chosen_values, in.value.size(3));
    });
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const double rows = static_cast<double>(sizes.batch * geometry.num_heads);
    const double square = static_cast<double>(sizes.queries) * static_cast<double>(sizes.keys);
    const double pairs = geometry.causal ? causal_pairs(sizes.queries, sizes.keys) : square;
    const double most = static_cast<double>(sizes.queries) * static_cast<double>(std::min(options.k, sizes.keys));
    const double d = geometry.head_dim, e = geometry.value_dim;
    Cost cost;
    cost.algorithmic_flops = 2 * rows * (pairs * d + std::min(most, pairs) * e);
    cost.executed_flops = 2 * rows * square * (d + e);
    // Weights and the byte per pair that says which were dropped; the scaled query.
    cost.activation_bytes = static_cast<int64_t>(
        rows * (square * (float_bytes + 1) + static_cast<double>(sizes.queries) * d * float_bytes));
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys);
    return cost;
  }

 private:
  /// Minus infinity where a logit is not among the k largest visible ones; rows that see nothing stay finite.
  Tensor kept_logits(const Tensor& logits, const Tensor& visible) const {
    constexpr double none = -std::numeric_limits<double>::infinity();
    auto ranked = logits;
    if (visible.defined()) {
      const auto hidden = visible.logical_not().logical_and(visible.any(-1, true));
      ranked = logits.masked_fill(hidden, none);
    }
    if (options_.k >= logits.size(-1)) return ranked;
    const auto least = std::get<0>(at::topk(ranked.detach(), options_.k, -1, true, /*sorted=*/true)).narrow(-1, -1, 1);
    return ranked.masked_fill(ranked.detach() < least, none);
  }

  Options options_;
};

const Register<TopK> register_top_k{{
    .name = "top_k",
    .family = "sparse",
    .summary = "softmax over the k largest logits of each query; all logits are computed",
    .equation = "y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the visible i whose logit is among the k largest",
    .source = "Zhao et al. 2019, arXiv:1912.11637, section 3",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads, Trait::content_dependent},
    .float32_sums = Float32Sums::always,
    .time_complexity = "T^2",
    .state_complexity = "T (D + E)",
    .samples = {Json{{"k", 2}}, Json{{"k", 10}}},
    .equalities = {{.statement = "k of T or more is softmax", .options = {{"k", 65}}, .other = "softmax"},
                   {.statement = "k of S or more is softmax, bidirectional",
                    .options = {{"k", 65}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale
