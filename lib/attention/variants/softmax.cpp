// Softmax attention: the reference that every other variant is compared with. Multi-head,
// grouped-query and multi-query are one variant: they differ by num_kv_heads alone. With options that
// recent models add to it: a cap on the logits, sinks, norms of query and key, a gate on the output.
//
// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width

#include <algorithm>
#include <cmath>
#include <tuple>

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>

#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/logits.h"
#include "attention/masks.h"
#include "attention/registry.h"
#include "tensor/shapes.h"

namespace attnscale {
namespace {

/// Added to the mean square in QK-norm.
constexpr double qk_norm_epsilon = 1e-6;

/// y_t = sum_s softmax_s(q_t . k_s / sqrt(D)) v_s, by PyTorch's fused kernels wherever the logits are not capped.
///
/// Options, each on its own or together, in the order in which they act:
/// - qk_norm: q and k become a_h q / sqrt(mean(q^2) + 1e-6) and b_g k / sqrt(mean(k^2) + 1e-6) (Dehghani et al. 2023,
///   arXiv:2302.05442, section 2, with root mean square in place of layer norm as in later models). Theirs scale each
///   number; ours has one scale per head, starting at 1, as the mixer has turned q and k by rotary positions already,
///   with which only a common factor commutes.
/// - logit_cap: s becomes c tanh(s / c) (Gemma 2, arXiv:2408.00118, section 2).
/// - sinks: a learnt logit per head takes part in the softmax and stands for no value (gpt-oss, OpenAI 2025). Starts
///   at 0, like an attention with one more zero key and value.
/// - output_gate: y is multiplied by sigmoid(gate), the gate projected from the residual stream for each head and
///   number (Qiu et al. 2025, arXiv:2505.06708, section 2.2, position G1).
class SoftmaxAttention : public CachedAttention {
 public:
  struct Options {
    double logit_cap = 0;
    bool sinks = false;
    bool qk_norm = false;
    bool output_gate = false;
    static Fields fields() {
      return {
          field(&Options::logit_cap, "logit_cap", "c of c tanh(logit / c), which keeps logits within c; 0: no cap")
              .at_least(0),
          field(&Options::sinks, "sinks", "a learnt logit per head in the softmax, standing for no value"),
          field(&Options::qk_norm, "qk_norm", "root-mean-square norm of query and key, with a learnt scale per head"),
          field(&Options::output_gate, "output_gate", "multiply the output by a sigmoid gate from the residual stream"),
      };
    }
  };

  SoftmaxAttention(const Options& options, const Geometry& geometry) : CachedAttention(geometry), options_(options) {
    if (options_.sinks) sinks_ = register_parameter("sinks", at::zeros({geometry.num_heads}));
    if (!options_.qk_norm) return;
    query_scale_ = register_parameter("query_scale", at::ones({geometry.num_heads}));
    key_scale_ = register_parameter("key_scale", at::ones({geometry.num_kv_heads}));
  }

  Tensor forward(const Inputs& in) override {
    check(in);
    return gated(attended({.query = normed(in.query, query_scale_),
                           .key = normed(in.key, key_scale_),
                           .value = in.value,
                           .key_padding = in.key_padding,
                           .bias = in.bias}),
                 in);
  }

  /// The state is the cache: every key (normed) and value so far.
  /// One copy of the cache per call: as much traffic as the attention itself, and no spare capacity.
  Tensor decode(const Inputs& in, State& state) override {
    check(in);
    return gated(attended(appended({.query = normed(in.query, query_scale_),
                                    .key = normed(in.key, key_scale_),
                                    .value = in.value,
                                    .bias = in.bias},
                                   state)),
                 in);
  }

  Tensor oracle(const Inputs& in) const override {
    auto query = in.query.to(torch::kFloat64), key = in.key.to(torch::kFloat64);
    const auto unit = [&](const Tensor& x, const Tensor& scale) {
      return x * scale.to(torch::kFloat64).view({-1, 1, 1}) / (x.square().mean(-1, true) + qk_norm_epsilon).sqrt();
    };
    if (options_.qk_norm) query = unit(query, query_scale_), key = unit(key, key_scale_);
    key = repeat_heads(key, query.size(1));
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
        auto scores = at::einsum("hd,hsd->hs", {query[b].select(1, t), key[b].index_select(1, at)}) /
                      std::sqrt(static_cast<double>(query.size(3)));
        if (options_.logit_cap > 0) scores = options_.logit_cap * at::tanh(scores / options_.logit_cap);
        if (in.bias.defined()) scores = scores + in.bias[0].select(1, t).index_select(1, at).to(torch::kFloat64);
        const auto highest = scores.amax(-1, true).detach();
        const auto weights = (scores - highest).exp();  // [H, visible]
        auto total = weights.sum(-1, true);
        if (options_.sinks) total = total + (sinks_.to(torch::kFloat64).unsqueeze(1) - highest).exp();
        rows.push_back(at::einsum("hs,hse->he", {weights / total, value[b].index_select(1, at)}));
      }
    }
    const auto output =
        at::stack(rows).view({query.size(0), queries, query.size(1), value.size(3)}).transpose(1, 2);  // [B, H, T, E]
    if (!options_.output_gate) return output;
    return output / (1 + (-in.gates.at("output").to(torch::kFloat64)).exp());
  }

  static std::vector<Gate> gates(const Options& options, const Geometry& geometry) {
    if (!options.output_gate) return {};
    return {{.name = "output", .width = geometry.value_dim}};
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    return (options.sinks ? geometry.num_heads : 0) +
           (options.qk_norm ? geometry.num_heads + geometry.num_kv_heads : 0);
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const int64_t heads = sizes.batch * geometry.num_heads, groups = sizes.batch * geometry.num_kv_heads;
    const int64_t d = geometry.head_dim, e = geometry.value_dim, queries = sizes.queries, keys = sizes.keys;
    const bool fused = d == e && options.logit_cap == 0, column = options.sinks && options.logit_cap == 0;
    Cost cost;
    const double square = static_cast<double>(queries) * static_cast<double>(keys);
    const double pairs = geometry.causal ? causal_pairs(queries, keys) : square;
    cost.algorithmic_flops = 2.0 * static_cast<double>(heads * (d + e)) * pairs;
    cost.executed_flops = 2.0 * static_cast<double>(heads * (d + e)) * square;
    if (column) {
      const int64_t rows = queries + (geometry.causal && queries == keys ? 1 : 0);
      cost.executed_flops = 2.0 * static_cast<double>(heads * (d + 1 + e + (d == e ? 1 : 0))) *
                            static_cast<double>(rows) * static_cast<double>(keys + 1);
    }
    // The fused kernel keeps one number per query, the log of its sum; without it, all weights stay, and with a cap
    // the hyperbolic tangents, and then with sinks the logits, too.
    int64_t kept = heads * queries * (fused ? 1 : keys);
    if (options.logit_cap > 0) kept *= options.sinks ? 3 : 2;
    if (column) kept += heads * queries * (d + 1) + groups * keys * (d + e + 2);
    if (options.qk_norm) kept += 2 * (heads * queries + groups * keys) * d;
    if (options.output_gate) kept += 2 * heads * queries * e;
    cost.activation_bytes = kept * float_bytes;
    cost.state_bytes = groups * keys * (d + e) * float_bytes;
    return cost;
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

  /// [B, H or G, T, D], the same shape and dtype
  Tensor normed(const Tensor& x, const Tensor& scale) const {
    if (!options_.qk_norm) return x;
    const auto unit = at::rms_norm(x, {x.size(3)}, {}, qk_norm_epsilon).to(x.scalar_type());
    return unit * scale.view({-1, 1, 1}).to(x.scalar_type());
  }

  Tensor gated(const Tensor& output, const Inputs& in) const {
    return options_.output_gate ? output * at::sigmoid(in.gates.at("output")) : output;
  }

  /// Of queries and keys that are normed already.
  Tensor attended(const Inputs& in) const {
    const int64_t queries = in.query.size(2), keys = in.key.size(2);
    const bool square = geometry_.causal && queries == keys && !in.key_padding.defined();
    const bool triangle = square && options_.logit_cap == 0 && !in.bias.defined();  // left to the kernel
    Tensor visible;
    if (!triangle)
      visible =
          visible_keys(geometry_.causal ? causal_mask(queries, keys, in.query.device()) : Tensor(), in.key_padding);
    if (options_.logit_cap > 0) return capped(in.query, in.key, in.value, visible, in.bias);
    if (options_.sinks) return with_sinks(in, square, triangle, visible);
    return softmax_attention(in.query, in.key, in.value, triangle, visible, in.bias);
  }

  Tensor capped(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& visible,
                const Tensor& bias) const {
    const double cap = options_.logit_cap;
    auto logits = pair_products(query * (1 / (cap * std::sqrt(static_cast<double>(query.size(3))))), key);
    logits = logits.to(accumulation_type(logits.scalar_type())).tanh_() * cap;  // [B, H, T, S]
    if (bias.defined()) logits = logits + bias;
    return attend_by_logits(logits, visible, value, sinks_);
  }

  /// One more number of query and key and one more key carry the sinks through the fused kernels: the query's number
  /// is its head's sink, the keys' is 0, and the new key's is sqrt(D). It comes first, with a query of its own that is
  /// dropped, so that the causal diagonal stays where it is. Copies query, keys and values once.
  /// @param first_query  whether that query is wanted @param causal  whether the kernel hides the future itself
  Tensor with_sinks(const Inputs& in, bool first_query, bool causal, Tensor visible) const {
    const auto& [query, key, value] = std::tie(in.query, in.key, in.value);
    const int64_t queries = query.size(2), d = query.size(3), e = value.size(3), before = first_query ? 1 : 0;
    const double width = static_cast<double>(d);
    const auto sinks = sinks_.to(query.scalar_type()).view({1, -1, 1, 1}).expand({query.size(0), -1, queries, 1});
    // softmax_attention divides by sqrt(D + 1).
    auto longer = at::cat({query, sinks}, 3) * std::sqrt((width + 1) / width);  // [B, H, T, D + 1]
    if (first_query) longer = pad_positions(longer, 1, 0);
    auto keys = at::constant_pad_nd(key, {0, 1, 1, 0}, 0);  // [B, G, 1 + S, D + 1]
    keys.select(2, 0).select(2, d).fill_(std::sqrt(width));
    const auto values = at::constant_pad_nd(value, {0, d == e ? 1 : 0, 1, 0}, 0);  // as wide as the keys if it was
    if (visible.defined()) visible = at::constant_pad_nd(visible, {1, 0, before, 0}, 1);
    const auto bias = in.bias.defined() ? at::constant_pad_nd(in.bias, {1, 0, before, 0}, 0) : in.bias;
    const auto output = softmax_attention(longer, keys, values, causal, visible, bias);
    return output.narrow(2, before, queries).narrow(3, 0, e);
  }

  Options options_;
  Tensor sinks_, query_scale_, key_scale_;  // [H], [H], [G]
};

const Register<SoftmaxAttention> register_softmax{
    {.name = "softmax",
     .family = "full",
     .summary = "softmax over all visible keys; multi-head, grouped-query and multi-query by num_kv_heads",
     .equation = "y_t = sum_s softmax_s(q_t . k_s / sqrt(D)) v_s; logit_cap c: c tanh(logit / c); sinks: one more "
                 "logit b_h, without a value; qk_norm: q and k divided by their root mean square; output_gate: "
                 "y_t sigmoid(g_t)",
     .source = "Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1; shared key-value heads: Shazeer 2019, "
               "arXiv:1911.02150, section 3, and Ainslie et al. 2023, arXiv:2305.13245, section 2.2; options: "
               "arXiv:2408.00118 (cap), gpt-oss (sinks), arXiv:2302.05442 (norms), arXiv:2505.06708 (gate)",
     .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
                Trait::grouped_heads, Trait::logit_bias},
     .time_complexity = "T^2",
     .state_complexity = "T",
     .samples = {Json{{"sinks", true}, {"output_gate", true}}, Json{{"logit_cap", 2.0}, {"qk_norm", true}},
                 Json{{"logit_cap", 5.0}, {"sinks", true}}},
     .equalities = {{.statement = "a cap far above every logit changes nothing",
                     .options = {{"logit_cap", 1e7}},
                     .other = "softmax"},
                    {.statement = "sinks far below every logit change nothing",
                     .options = {{"sinks", true}},
                     .other = "softmax",
                     .prepare = [](Attention& attention) { attention.named_parameters()["sinks"].fill_(-1e3); }},
                    {.statement = "sinks give the same with and without a cap that changes nothing",
                     .options = {{"sinks", true}, {"logit_cap", 1e7}},
                     .other = "softmax",
                     .other_options = {{"sinks", true}}}}}};

}  // namespace
}  // namespace attnscale
