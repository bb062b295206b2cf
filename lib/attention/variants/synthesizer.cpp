// Synthesizer: attention weights that no query-key product made, either one learnt matrix for all inputs or a map of
// each position alone to a row of weights. Tay et al. 2020, arXiv:2005.00743, section 3.
//
// B batch, H heads, G value heads (G divides H), T positions, C longest context, M width of the residual stream,
// D hidden width of the dense map, E value width, r rank, W common width for the fused kernel
//
// Not here: the full random matrix (rank C spans it), the factorised dense map, and mixtures.

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/projections.h"
#include "attention/registry.h"
#include "core/error.h"
#include "tensor/shapes.h"

namespace attnscale {
namespace {

/// y_t = W_o [sum_s softmax_s(L_h[t, s]) v_h[s]] over the visible s, v = W_v x; heads side by side.
///
/// `random` (section 3.1.4): L_h = R_h S_h^T, with R_h and S_h [C, rank] learnt and nothing of the input. They start as
/// N(0, 1 / sqrt(rank)), so that logits have variance 1.
/// `dense` (section 3.1.2): L_h[t, s] = w_h[s] . relu(U_h x_t + b_h) + c_h[s]. U and w start as the model's other
/// matrices do (N(0, 0.02)) and b, c at zero, so that a layer begins close to a mean.
///
/// Both are an inner product of something at t with something learnt for place s, which is how they are computed:
/// as softmax attention in the fused kernel, whose work is T^2 and whose memory is not. Its three widths must be
/// equal; zeros fill up.
///
/// Reads the residual stream itself: query and key projections would be parameters without use.
class Synthesizer : public Attention {
 public:
  struct Options {
    std::string logits = "random";
    int64_t rank = 8;
    static Fields fields() {
      return {field(&Options::logits, "logits",
                    "what makes the weights: a learnt matrix of low rank, or a dense map of the position alone")
                  .one_of({"random", "dense"}),
              field(&Options::rank, "rank", "of the random matrix; the dense map's is the head width").at_least(1)};
    }
  };

  Synthesizer(const Options& options, const Geometry& geometry)
      : Attention(geometry), dense_(options.logits == "dense") {
    const int64_t H = geometry.num_heads, D = geometry.head_dim, C = geometry.context, M = geometry.model_dim;
    value_ = register_module("value", input_projection(M, geometry.num_kv_heads * geometry.value_dim));
    output_ = register_module("output", output_projection(H * geometry.value_dim, M, geometry.depth));
    if (dense_) {
      hidden_ = register_module("hidden", input_projection(M, H * D, /*with_bias=*/true));
      places_ = register_parameter("places", torch::randn({H, C, D}) * 0.02);
      place_bias_ = register_parameter("place_bias", torch::zeros({H * C}));
    } else {
      const double spread = std::pow(static_cast<double>(options.rank), -0.25);
      rows_ = register_parameter("rows", torch::randn({H, C, options.rank}) * spread);
      places_ = register_parameter("places", torch::randn({H, C, options.rank}) * spread);
    }
  }

  Tensor forward(const Inputs& in) override {
    const auto value = value_of(in.hidden);
    if (!in.key_padding.defined()) return attend(in.hidden, value, 0, {});
    const int64_t positions = value.size(2);
    const auto mask = geometry_.causal ? causal_mask(positions, positions, value.device()) : Tensor();
    return attend(in.hidden, value, 0, visible_keys(mask, in.key_padding));
  }

  /// The values so far, [B, G, T, E].
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    return {.tensors = {{"value", at::empty({batch, geometry_.num_kv_heads, 0, geometry_.value_dim}, options)}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    auto& value = state.tensors.at("value");
    value = at::cat({value, value_of(in.hidden)}, 2);
    const int64_t from = state.length, positions = in.hidden.size(2);
    state.length += positions;
    return attend(in.hidden, value, from, causal_mask(positions, state.length, value.device()));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto hidden = rows_of(in.hidden);
    const auto parameters = named_parameters();
    const auto parameter = [&](const char* name) { return in_double(parameters[name]); };
    const auto places = parameter("places"), to_value = parameter("value.weight"), to_out = parameter("output.weight");
    const int64_t heads = geometry_.num_heads, positions = in.hidden.size(2), shared = heads / geometry_.num_kv_heads;
    const int64_t d = geometry_.head_dim, e = geometry_.value_dim;
    std::vector<Tensor> outputs;
    for (int64_t b = 0; b < in.hidden.size(0); ++b) {
      std::vector<int64_t> real;
      std::vector<Tensor> values;  // [positions][G E]
      for (const auto& x : hidden[b][0]) values.push_back(at::mv(to_value, x));
      const auto all_values = at::stack(values);
      for (int64_t s = 0; s < positions; ++s)
        if (is_real(in, b, s)) real.push_back(s);
      for (int64_t t = 0; t < positions; ++t) {
        std::vector<int64_t> seen;
        for (const int64_t s : real)
          if (!geometry_.causal || s <= t) seen.push_back(s);
        if (seen.empty()) {
          outputs.push_back(at::zeros({geometry_.model_dim}, all_values.options()));
          continue;
        }
        const auto at = torch::tensor(seen, places.device());
        std::vector<Tensor> by_head;
        for (int64_t h = 0; h < heads; ++h) {
          const auto keys = places[h].index_select(0, at);
          Tensor logits;
          if (dense_) {
            const auto weight = parameter("hidden.weight").narrow(0, h * d, d);
            const auto bias = parameter("hidden.bias").narrow(0, h * d, d);
            const auto activation = (at::mv(weight, hidden[b][0][t]) + bias).clamp_min(0);
            logits = at::mv(keys, activation) +
                     parameter("place_bias").narrow(0, h * geometry_.context, geometry_.context).index_select(0, at);
          } else {
            logits = at::mv(keys, parameter("rows")[h][t]);
          }
          const auto value = all_values.narrow(1, h / shared * e, e).index_select(0, at);
          by_head.push_back(at::mv(value.t(), at::softmax(logits, 0)));
        }
        outputs.push_back(at::mv(to_out, at::cat(by_head)));
      }
    }
    return at::stack(outputs).view({in.hidden.size(0), 1, positions, geometry_.model_dim});
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    const int64_t H = geometry.num_heads, D = geometry.head_dim, C = geometry.context, M = geometry.model_dim;
    const int64_t projections = M * geometry.value_dim * (geometry.num_kv_heads + H);
    if (options.logits == "dense") return projections + (M + 1) * H * D + H * C * (D + 1);
    return projections + 2 * H * C * options.rank;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const bool dense = options.logits == "dense";
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double queries = sizes.queries, keys = sizes.keys, model = geometry.model_dim, e = geometry.value_dim;
    const double width = dense ? geometry.head_dim + 1 : options.rank, common = std::max(width, e);
    const double pairs = geometry.causal ? causal_pairs(sizes.queries, sizes.keys) : queries * keys;
    const double projections =
        2 * batch * queries * model * (groups * e + heads * e + (dense ? heads * geometry.head_dim : 0));
    Cost cost;
    // The random matrix is the same for every row of a batch.
    cost.algorithmic_flops = projections + 2 * heads * pairs * ((dense ? batch : 1) * width + batch * e);
    cost.executed_flops = projections + 4 * batch * heads * queries * keys * common;
    double kept = batch * (groups * keys * e + heads * queries * (e + 1 + 2 * common)) + heads * keys * common;
    if (dense) kept += batch * heads * queries * (geometry.head_dim + common);
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    cost.state_bytes = float_bytes * sizes.batch * geometry.num_kv_heads * sizes.keys * geometry.value_dim;
    return cost;
  }

 private:
  /// Heads of [B, 1, T, N W] -> [B, N, T, W]
  static Tensor by_head(const Tensor& x, int64_t heads) {
    return x.view({x.size(0), x.size(2), heads, -1}).transpose(1, 2);
  }

  Tensor value_of(const Tensor& hidden) const {
    const auto letters = check_shapes("synthesizer", {{"hidden", hidden, "B 1 T M"}});
    if (letters.at("M") != geometry_.model_dim)
      throw ShapeError(
          fmt::format("synthesizer: hidden is {} wide; it was built for {}", letters.at("M"), geometry_.model_dim));
    return by_head(value_->forward(hidden), geometry_.num_kv_heads);
  }

  /// @param hidden  [B, 1, T, M], whose first position is `from` of the `value` [B, G, S, E]
  Tensor attend(const Tensor& hidden, const Tensor& value, int64_t from, const Tensor& visible) const {
    const int64_t batch = value.size(0), heads = geometry_.num_heads, queries = hidden.size(2), keys = value.size(2);
    if (from + queries > geometry_.context)
      throw ShapeError(fmt::format("synthesizer: {} positions, but it learns weights for a context of {}",
                                   from + queries, geometry_.context));
    const auto type = value.scalar_type();
    Tensor query, key = places_.narrow(1, 0, keys).to(type);  // [H, S, r or D]
    if (dense_) {
      query = at::constant_pad_nd(at::relu(by_head(hidden_->forward(hidden), heads)), {0, 1}, 1).to(type);
      key = at::cat({key, place_bias_.view({heads, -1, 1}).narrow(1, 0, keys).to(type)}, -1);
    } else {
      query = rows_.narrow(1, from, queries).to(type).unsqueeze(0);
    }
    // The kernel divides logits by the root of the width.
    const int64_t width = std::max(key.size(-1), value.size(-1));
    const auto widened = [&](const Tensor& x) { return at::constant_pad_nd(x, {0, width - x.size(-1)}, 0); };
    query = widened(query * std::sqrt(static_cast<double>(width))).expand({batch, -1, -1, -1});
    key = widened(key).unsqueeze(0).expand({batch, -1, -1, -1});
    const bool causal = geometry_.causal && !visible.defined();
    const auto mixed = softmax_attention(query, key, widened(repeat_heads(value, heads)), causal, visible)
                           .narrow(-1, 0, value.size(-1));  // [B, H, T, E]
    return output_->forward(mixed.transpose(1, 2).flatten(2).unsqueeze(1));
  }

  bool dense_;
  std::shared_ptr<Linear> value_, output_, hidden_;
  Tensor rows_, places_, place_bias_;
};

const Register<Synthesizer> register_synthesizer{{
    .name = "synthesizer",
    .family = "low-rank",
    .summary = "weights without query-key products: a learnt low-rank matrix, or a dense map of each position",
    .equation = "y_t = W_o sum_s softmax_s(L[t, s]) W_v x_s; random: L = R S^T; "
                "dense: L[t, s] = w_s . relu(U x_t + b) + c_s",
    .source = "Tay et al. 2020, arXiv:2005.00743, sections 3.1.2 and 3.1.4",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads,
               Trait::owns_projections},
    .time_complexity = "T^2 (rank + E)",
    .state_complexity = "T E",
    .samples = {Json{{"rank", 3}}, Json{{"logits", "dense"}}},
}};

}  // namespace
}  // namespace attnscale
