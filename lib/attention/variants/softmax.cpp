// Softmax attention: the reference that every other variant is compared with. Multi-head,
// grouped-query and multi-query are one variant: they differ by num_kv_heads alone.
//
// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width

#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "attention/masks.h"
#include "attention/registry.h"
#include "tensor/shapes.h"

namespace attnscale {
namespace {

class SoftmaxAttention : public Attention {
 public:
  struct Options {
    static Fields fields() { return {}; }
  };

  SoftmaxAttention(const Options&, const Geometry& geometry) : Attention(geometry) {}

  Tensor forward(const Inputs& in) override {
    const auto letters = check(in);
    const int64_t queries = letters.at("T"), keys = letters.at("S");
    const bool square = queries == keys && !in.key_padding.defined();
    if (!geometry_.causal || square)
      return softmax_attention(in.query, in.key, in.value, geometry_.causal, visible_keys({}, in.key_padding));
    return softmax_attention(in.query, in.key, in.value, false,
                             visible_keys(causal_mask(queries, keys, in.query.device()), in.key_padding));
  }

  /// The cache: every key and value so far.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    const auto empty = [&](int64_t width) { return at::empty({batch, geometry_.num_kv_heads, 0, width}, options); };
    return {.tensors = {{"key", empty(geometry_.head_dim)}, {"value", empty(geometry_.value_dim)}}};
  }

  /// One copy of the cache per call: as much traffic as the attention itself, and no spare capacity.
  Tensor decode(const Inputs& in, State& state) override {
    const auto letters = check(in);
    auto& key = state.tensors.at("key");
    auto& value = state.tensors.at("value");
    key = at::cat({key, in.key}, 2);        // [B, G, S, D]
    value = at::cat({value, in.value}, 2);  // [B, G, S, E]
    state.length += letters.at("T");
    return forward({.query = in.query, .key = key, .value = value});
  }

  Tensor oracle(const Inputs& in) const override {
    const auto query = in.query.to(torch::kFloat64);
    const auto key = repeat_heads(in.key.to(torch::kFloat64), query.size(1));
    const auto value = repeat_heads(in.value.to(torch::kFloat64), query.size(1));
    const int64_t keys = key.size(2), queries = query.size(2);
    std::vector<Tensor> rows;
    for (int64_t b = 0; b < query.size(0); ++b) {
      for (int64_t t = 0; t < queries; ++t) {
        std::vector<int64_t> visible;
        const int64_t newest = geometry_.causal ? keys - queries + t : keys - 1;
        for (int64_t s = 0; s <= newest; ++s)
          if (!in.key_padding.defined() || in.key_padding[b][s].item<bool>()) visible.push_back(s);
        if (visible.empty()) {
          rows.push_back(at::zeros({query.size(1), value.size(3)}, value.options()));
          continue;
        }
        const auto at = torch::tensor(visible);
        const auto scores = at::einsum("hd,hsd->hs", {query[b].select(1, t), key[b].index_select(1, at)}) /
                            std::sqrt(static_cast<double>(query.size(3)));
        const auto weights = (scores - scores.amax(-1, true).detach()).exp();  // [H, visible]
        rows.push_back(at::einsum("hs,hse->he", {weights / weights.sum(-1, true), value[b].index_select(1, at)}));
      }
    }
    return at::stack(rows)
        .view({query.size(0), queries, query.size(1), value.size(3)})
        .transpose(1, 2);  // [B, H, T, E]
  }

  static Cost cost(const Options&, const Geometry& geometry, const Sizes& sizes) {
    const double heads = static_cast<double>(sizes.batch * geometry.num_heads);
    const double per_pair = 2.0 * static_cast<double>(geometry.head_dim + geometry.value_dim);
    const double square = static_cast<double>(sizes.queries) * static_cast<double>(sizes.keys);
    const double pairs = geometry.causal ? causal_pairs(sizes.queries, sizes.keys) : square;
    // The fused kernel keeps one number per query, the log of its sum; without it, all weights stay.
    const int64_t kept = geometry.head_dim == geometry.value_dim ? 1 : sizes.keys;
    return {.algorithmic_flops = heads * pairs * per_pair,
            .executed_flops = heads * square * per_pair,
            .activation_bytes = sizes.batch * geometry.num_heads * sizes.queries * kept * float_bytes,
            .state_bytes = sizes.batch * geometry.num_kv_heads * sizes.keys * (geometry.head_dim + geometry.value_dim) *
                           float_bytes};
  }

 private:
  ShapeLetters check(const Inputs& in) const {
    auto letters = check_shapes(
        "softmax", {{"query", in.query, "B H T D"}, {"key", in.key, "B G S D"}, {"value", in.value, "B G S E"}});
    if (in.key_padding.defined())
      check_shapes(
          "softmax",
          {{"query", in.query, "B * * *"}, {"key", in.key, "B * S *"}, {"key_padding", in.key_padding, "B S"}});
    return letters;
  }
};

const Register<SoftmaxAttention> register_softmax{
    {.name = "softmax",
     .family = "full",
     .summary = "softmax over all visible keys; multi-head, grouped-query and multi-query by num_kv_heads",
     .equation = "y_t = sum_s softmax_s(q_t . k_s / sqrt(D)) v_s",
     .source = "Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1; shared key-value heads: Shazeer 2019, "
               "arXiv:1911.02150, section 3, and Ainslie et al. 2023, arXiv:2305.13245, section 2.2",
     .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
                Trait::grouped_heads},
     .time_complexity = "T^2",
     .state_complexity = "T"}};

}  // namespace
}  // namespace attnscale
