// Contextual positions: a query counts the keys that it deems worth counting, and a key's position is how many of them
// lie between. Golovneva et al. 2024, arXiv:2405.18719, section 4 (CoPE).
//
// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width, P positions

#include <algorithm>
#include <cmath>
#include <optional>

#include <ATen/ops/matmul.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/zeros.h>

#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/logits.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_s softmax_s(l_ts + q_t . e[p_ts]) v_s with l_ts = q_t . k_s / sqrt(D), over s <= t. Each pair has a gate
/// g_ts = sigmoid(l_ts), and p_ts = sum of g_ti over s <= i <= t, at most P - 1. Between whole positions e is
/// interpolated: e[p] = (1 - w) e[floor p] + w e[floor p + 1], w = p - floor p.
///
/// As in the paper's code (its appendix), gates see the logits after their scaling, q . e is not scaled, and e, which
/// starts at 0, is shared by the heads of a layer. With all gates shut every key is at position 0; open, positions are
/// distances. Where the model adds a bias to the logits it comes on top, and gates do not see it.
///
/// A query costs P products with e beside those with keys; the whole square is computed, its hidden half too.
class ContextualAttention : public CachedAttention {
 public:
  struct Options {
    std::optional<int64_t> positions;
    static Fields fields() {
      return {field(&Options::positions, "positions",
                    "P: vectors for positions 0 to P - 1, the last of which stands for all farther ones; left out: 64, "
                    "at most context + 1")
                  .between(2, 1 << 16)
                  .in("positions")};
    }
  };

  ContextualAttention(const Options& options, const Geometry& geometry)
      : CachedAttention(geometry),
        positions_(register_parameter("positions", at::zeros({count(options, geometry), geometry.head_dim}))) {}

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("contextual", in, geometry_, false);
    auto logits = pair_products(in.query * (1 / std::sqrt(static_cast<double>(sizes.key_width))), in.key);
    logits = logits.to(accumulation_type(logits.scalar_type()));  // [B, H, T, S]
    const auto visible = visible_keys(causal_mask(sizes.queries, sizes.keys, in.query.device()), in.key_padding);
    logits = logits + position_logits(in.query, logits, visible);
    if (in.bias.defined()) logits = logits + in.bias.to(logits.scalar_type());
    return attend_by_logits(logits, visible, in.value);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto table = in_double(positions_).unbind(0);
    const int64_t later = in.key.size(2) - in.query.size(2), last = std::ssize(table) - 1;
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> logits, values;  // from the newest key back
      Tensor position;
      for (int64_t i = t + later; i >= 0; --i) {
        if (!is_real(in, b, i)) continue;
        const auto& q = query[b][h][t];
        const auto logit = q.dot(key[b][g][i]) / std::sqrt(static_cast<double>(in.key.size(3)));
        const auto gate = 1 / (1 + (-logit).exp());
        position = position.defined() ? position + gate : gate;
        const auto whole = static_cast<int64_t>(std::floor(position.item<double>()));
        const auto vector = whole >= last
                                ? table[last]
                                : table[whole] * (1 - (position - whole)) + table[whole + 1] * (position - whole);
        const auto bias = in.bias.defined() ? in_double(in.bias[0][h][t][i]) : at::zeros({}, logit.options());
        logits.push_back(logit + q.dot(vector) + bias);
        values.push_back(value[b][g][i]);
      }
      if (logits.empty()) return at::zeros({in.value.size(3)}, query[b][h][t].options());
      return at::mv(at::stack(values).t(), at::softmax(at::stack(logits), 0));
    });
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    return count(options, geometry) * geometry.head_dim;
  }

  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    if (options.positions.value_or(2) <= geometry.context + 1) return {};
    return {"positions beyond the context are never reached; take 2 to context + 1, or leave it out"};
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const double heads = static_cast<double>(sizes.batch * geometry.num_heads);
    const double queries = static_cast<double>(sizes.queries), square = queries * static_cast<double>(sizes.keys);
    const double per_pair = 2.0 * static_cast<double>(geometry.head_dim + geometry.value_dim);
    const double places = static_cast<double>(count(options, geometry));
    const double of_positions = heads * queries * 2.0 * static_cast<double>(geometry.head_dim) * places;
    // Gates, their sums, the shares between positions, what the shares weigh, and the weights; indices are twice as
    // wide. Beside them the scaled query.
    const double kept = heads * (7 * square + queries * static_cast<double>(geometry.head_dim));
    return {.algorithmic_flops = heads * causal_pairs(sizes.queries, sizes.keys) * per_pair + of_positions,
            .executed_flops = heads * square * per_pair + of_positions,
            .activation_bytes = static_cast<int64_t>(float_bytes * kept),
            .state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys)};
  }

 private:
  static int64_t count(const Options& options, const Geometry& geometry) {
    return options.positions.value_or(std::min<int64_t>(64, geometry.context + 1));
  }

  /// q_t . e[p_ts], [B, H, T, S]. @param logits  l, whose hidden entries count nothing
  Tensor position_logits(const Tensor& query, const Tensor& logits, const Tensor& visible) const {
    const int64_t last = positions_.size(0) - 1;
    const auto gates = logits.sigmoid().masked_fill(visible.logical_not(), 0);
    const auto position = gates.flip({-1}).cumsum(-1).flip({-1}).clamp_max(static_cast<double>(last));
    const auto below = position.detach().floor().clamp_max(static_cast<double>(last - 1));
    const auto index = below.to(torch::kLong);
    const auto at_whole = at::matmul(query, positions_.to(query.scalar_type()).t()).to(logits.scalar_type());
    const auto steps = at_whole.narrow(-1, 1, last) - at_whole.narrow(-1, 0, last);  // [B, H, T, P - 1]
    return at_whole.gather(-1, index) + (position - below) * steps.gather(-1, index);
  }

  Tensor positions_;  // [P, D]
};

const Register<ContextualAttention> register_contextual{{
    .name = "contextual",
    .family = "full",
    .summary = "positions count the keys that a query deems worth counting (CoPE)",
    .equation = "y_t = sum_s softmax_s(l_ts + q_t . e[p_ts]) v_s, l_ts = q_t . k_s / sqrt(D), p_ts = sum_{s<=i<=t} "
                "sigmoid(l_ti)",
    .source = "Golovneva et al. 2024, arXiv:2405.18719, section 4",
    .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::grouped_heads, Trait::logit_bias},
    .time_complexity = "T^2",
    .state_complexity = "T",
    .samples = {Json{{"positions", 3}}},
    .equalities = {{.statement = "with vectors of zeros it is softmax",
                    .other = "softmax",
                    .prepare = [](Attention& attention) { attention.parameters()[0].zero_(); }},
                   {.statement = "with one vector for all positions, which all keys share, it is softmax",
                    .other = "softmax",
                    .prepare =
                        [](Attention& attention) {
                          attention.parameters()[0].copy_(
                              attention.parameters()[0][0].clone().expand_as(attention.parameters()[0]));
                        }}},
}};

}  // namespace
}  // namespace attnscale
