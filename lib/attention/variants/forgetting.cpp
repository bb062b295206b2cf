// Forgetting attention (FoX): softmax attention whose logits fade by data-dependent forget gates between key and
// query. Lin et al. 2025, arXiv:2503.02130, section 3.
//
// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width
//
// Not here: what the paper's "Pro" block adds around it (output gate and norm, QK-norm, shifted keys and values).

#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/log_sigmoid.h>

#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/logits.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_{s <= t} softmax_s(q_t . k_s / sqrt(D) + sum_{s < l <= t} ln f_l) v_s, f_l = sigmoid(gate_l) per head.
///
/// The gate is projected from the residual stream by the mixer. A padded position forgets nothing. The whole square is
/// computed: gradients flow into the bias, which the fused kernels do not give.
///
/// The sums of ln f are differences of one running sum F, kept in float64 and split into two float32 parts: F grows
/// with the length, and its rounding in float32 would reach the logits of neighbours, whose difference is small.
class ForgettingAttention : public Attention {
 public:
  struct Options {
    static Fields fields() { return {}; }
  };

  ForgettingAttention(const Options&, const Geometry& geometry) : Attention(geometry) {}

  Tensor forward(const Inputs& in) override {
    checked_sizes("forgetting", in, geometry_, true);
    auto forget = log_forget(in);
    if (in.key_padding.defined()) forget = forget.masked_fill(in.key_padding.unsqueeze(1).logical_not(), 0);
    return attended(in.query, in.key, in.value, forget, in.key_padding);
  }

  /// The cache: every key and value so far, and ln f for each.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    const auto type = accumulation_type(c10::typeMetaToScalarType(options.dtype()));
    auto state = empty_key_value_state(geometry_, batch, options);
    state.tensors["log_forget"] = at::empty({batch, geometry_.num_heads, 0}, options.dtype(type));
    return state;
  }

  Tensor decode(const Inputs& in, State& state) override {
    checked_sizes("forgetting", in, geometry_, true);
    auto& forget = state.tensors.at("log_forget");
    forget = at::cat({forget, log_forget(in)}, 2);  // [B, H, S]
    const auto all = appended(in, state);
    return attended(all.query, all.key, all.value, forget, {});
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto gate = rows_of(in.gates.at("forget"));
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> logits, values;
      auto fade = at::zeros({}, query[b][h][t].options());
      for (int64_t i = t; i >= 0; --i) {  // from the newest key back: each step adds the gate just passed
        if (!is_real(in, b, i)) continue;
        const auto product = at::dot(query[b][h][t], key[b][g][i]) / std::sqrt(static_cast<double>(in.key.size(3)));
        logits.push_back(product + fade);
        values.push_back(value[b][g][i]);
        fade = fade - (1 + (-gate[b][h][i][0]).exp()).log();
      }
      if (values.empty()) return at::zeros({in.value.size(3)}, query[b][h][t].options());
      return at::mv(at::stack(values).t(), at::softmax(at::stack(logits), 0));
    });
  }

  static std::vector<Gate> gates(const Options&, const Geometry&) { return {{.name = "forget"}}; }

  static Cost cost(const Options&, const Geometry& geometry, const Sizes& sizes) {
    const double heads = static_cast<double>(sizes.batch * geometry.num_heads);
    const double per_pair = 2.0 * static_cast<double>(geometry.head_dim + geometry.value_dim);
    const double square = static_cast<double>(sizes.queries) * static_cast<double>(sizes.keys);
    // The weights, the scaled query, and of the gates ln f with what its derivative needs.
    const double kept = heads * (square + static_cast<double>(sizes.queries * (geometry.head_dim + 3)));
    return {.algorithmic_flops = heads * causal_pairs(sizes.queries, sizes.keys) * per_pair,
            .executed_flops = heads * square * per_pair,
            .activation_bytes = static_cast<int64_t>(float_bytes * kept),
            .state_bytes = sizes.batch * sizes.keys * float_bytes *
                           (geometry.num_kv_heads * (geometry.head_dim + geometry.value_dim) + geometry.num_heads)};
  }

 private:
  /// ln sigmoid(gate), [B, H, T], in at least float32
  static Tensor log_forget(const Inputs& in) {
    const auto gate = in.gates.at("forget").squeeze(3);
    return at::log_sigmoid(gate.to(accumulation_type(gate.scalar_type())));
  }

  /// Queries are the newest T of S positions; log_forget [B, H, S].
  static Tensor attended(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& log_forget,
                         const Tensor& key_padding) {
    const int64_t queries = query.size(2), keys = key.size(2);
    auto logits = pair_products(query * (1 / std::sqrt(static_cast<double>(query.size(3)))), key);
    logits = logits.to(accumulation_type(logits.scalar_type()));  // [B, H, T, S]
    const auto add_differences = [&](const Tensor& sums) {
      logits.add_(sums.narrow(2, keys - queries, queries).unsqueeze(3) - sums.unsqueeze(2));
    };
    const auto sums = log_forget.cumsum(2, torch::kFloat64);  // F, [B, H, S]
    const auto rounded = sums.to(logits.scalar_type());
    add_differences(rounded);
    if (logits.scalar_type() != torch::kFloat64)  // F's gradient goes through the first part alone
      add_differences((sums.detach() - rounded.detach().to(torch::kFloat64)).to(logits.scalar_type()));
    return attend_by_logits(logits, visible_keys(causal_mask(queries, keys, query.device()), key_padding), value);
  }
};

const Register<ForgettingAttention> register_forgetting{{
    .name = "forgetting",
    .family = "full",
    .summary = "softmax whose logits fade by a data-dependent forget gate at every step; the attention alone, "
               "without the Pro block around it",
    .equation = "y_t = sum_{s<=t} softmax_s(q_t . k_s / sqrt(D) + sum_{s<l<=t} ln f_l) v_s, f = sigmoid(gate)",
    .source = "Lin et al. 2025, arXiv:2503.02130, section 3",
    .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T^2",
    .state_complexity = "T",
    .equalities = {{.statement = "gates that forget nothing leave softmax",
                    .other = "softmax",
                    .inputs =
                        [](const Inputs& inputs) {
                          auto open = inputs;
                          open.gates["forget"] = at::full_like(inputs.gates.at("forget"), 1e3);
                          return open;
                        }}},
}};

}  // namespace
}  // namespace attnscale
