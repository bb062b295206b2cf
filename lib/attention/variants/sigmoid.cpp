// Sigmoid attention: every key is weighed on its own, without a sum over the others. Ramapuram et al. 2024,
// arXiv:2409.04431, section 3.
//
// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width

#include <cmath>
#include <optional>

#include <ATen/ops/full.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/logits.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_s sigmoid(q_t . k_s / sqrt(D) + b) v_s over the visible keys; nothing is normalised.
///
/// b = -ln n keeps the weights' sum near 1 at the start; the paper takes the length of its sequences for n, ours is
/// the context of the model, since a length that grows with decoding would change earlier outputs. `learnt_bias` makes
/// b a parameter per head that starts there (section 3.3 and appendix compare both).
///
/// The whole square is computed and its hidden half set to zero: no kernel skips it.
class SigmoidAttention : public CachedAttention {
 public:
  struct Options {
    std::optional<double> bias;
    bool learnt_bias = false;
    static Fields fields() {
      return {field(&Options::bias, "bias", "b of sigmoid(logit + b), or its start; left out: -ln(context)"),
              field(&Options::learnt_bias, "learnt_bias", "make b a parameter of each head")};
    }
  };

  SigmoidAttention(const Options& options, const Geometry& geometry)
      : CachedAttention(geometry),
        initial_bias_(options.bias.value_or(-std::log(static_cast<double>(geometry.context)))) {
    if (options.learnt_bias) bias_ = register_parameter("bias", at::full({geometry.num_heads}, initial_bias_));
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("sigmoid", in, geometry_, false);
    auto logits = pair_products(in.query * (1 / std::sqrt(static_cast<double>(sizes.key_width))), in.key);
    logits = logits.to(accumulation_type(logits.scalar_type()));  // [B, H, T, S]
    if (bias_.defined()) logits.add_(bias_.view({-1, 1, 1}).to(logits.scalar_type()));
    else logits.add_(initial_bias_);
    if (in.bias.defined()) logits.add_(in.bias.to(logits.scalar_type()));
    const auto visible = visible_keys(
        geometry_.causal ? causal_mask(sizes.queries, sizes.keys, in.query.device()) : Tensor(), in.key_padding);
    if (visible.defined()) logits.masked_fill_(visible.logical_not(), -INFINITY);
    return weighted_values(logits.sigmoid_().to(in.value.scalar_type()), in.value);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto biases =
        in_double(bias_.defined() ? bias_
                                  : at::full({geometry_.num_heads}, initial_bias_, torch::dtype(torch::kFloat64)))
            .unbind(0);
    const int64_t later = in.key.size(2) - in.query.size(2);
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> keys, values, added;
      for (int64_t i = 0; i < in.key.size(2); ++i) {
        if ((geometry_.causal && i > t + later) || !is_real(in, b, i)) continue;
        keys.push_back(key[b][g][i]);
        values.push_back(value[b][g][i]);
        added.push_back(in.bias.defined() ? in.bias[0][h][t][i].to(torch::kFloat64) : at::zeros({}, torch::kFloat64));
      }
      if (keys.empty()) return at::zeros({in.value.size(3)}, query[b][h][t].options());
      const auto logits = at::mv(at::stack(keys), query[b][h][t]) / std::sqrt(static_cast<double>(in.key.size(3)));
      return at::mv(at::stack(values).t(), 1 / (1 + (-(logits + biases[h] + at::stack(added))).exp()));
    });
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    return options.learnt_bias ? geometry.num_heads : 0;
  }

  static Cost cost(const Options&, const Geometry& geometry, const Sizes& sizes) {
    const double heads = static_cast<double>(sizes.batch * geometry.num_heads);
    const double per_pair = 2.0 * static_cast<double>(geometry.head_dim + geometry.value_dim);
    const double square = static_cast<double>(sizes.queries) * static_cast<double>(sizes.keys);
    const double pairs = geometry.causal ? causal_pairs(sizes.queries, sizes.keys) : square;
    // The weights stay, and the scaled query.
    const double kept = heads * (square + static_cast<double>(sizes.queries * geometry.head_dim));
    return {.algorithmic_flops = heads * pairs * per_pair,
            .executed_flops = heads * square * per_pair,
            .activation_bytes = static_cast<int64_t>(float_bytes * kept),
            .state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys)};
  }

 private:
  double initial_bias_;
  Tensor bias_;  // [H]
};

const Register<SigmoidAttention> register_sigmoid{{
    .name = "sigmoid",
    .family = "full",
    .summary = "a sigmoid in place of the softmax: keys do not compete",
    .equation = "y_t = sum_s sigmoid(q_t . k_s / sqrt(D) + b) v_s, b = -ln(context)",
    .source = "Ramapuram et al. 2024, arXiv:2409.04431, section 3",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads, Trait::logit_bias},
    .time_complexity = "T^2",
    .state_complexity = "T",
    .samples = {Json{{"learnt_bias", true}}, Json{{"bias", 0.5}}},
    .equalities = {{.statement = "a learnt bias is the fixed one where it starts",
                    .options = {{"learnt_bias", true}},
                    .other = "sigmoid",
                    .other_options = {{"bias", -1.25}},
                    .prepare = [](Attention& attention) { attention.parameters()[0].fill_(-1.25); }}},
}};

}  // namespace
}  // namespace attnscale
