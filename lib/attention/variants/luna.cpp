// Luna: two nested attentions. A short learnt sequence packs the keys and values by attending to them; queries then
// attend to the packed sequence. Ma et al. 2021, arXiv:2106.01540, sections 3.1 to 3.3.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, l packed length
// D key width, E value width
//
// Not here: handing the packed sequence on to the next layer, with its own norm (each layer learns its own here).

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include "attention/chunked_sums.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// Bidirectional (sections 3.1 and 3.2): A = softmax(P k^T / sqrt(D)), K' = A k, V' = A v,
/// y = softmax(q K'^T / sqrt(D)) V', with P [l, D] learnt for each key-value head.
///
/// Causal (section 3.3): a softmax over all positions would see the future, so each position s gives the packed ones
/// a_s = elu(P k_s / sqrt(D)) + 1, and sums up to t, divided by their number N_t, stand in for the packed sequence:
/// u_t = softmax(q_t (sum_{s <= t} k_s a_s^T) / (N_t sqrt(D))), y_t = u_t (sum_{s <= t} a_s v_s^T) / N_t.
/// The weights of a packed position do not sum to one there, as in the paper. Both sums go by chunks.
///
/// The paper projects the stream once more for packing, and the packed sequence again for unpacking; here both read
/// the mixer's keys and values, which costs no parameters beyond P. (Unpacking is linear in what was packed, so
/// projecting before or after is the same map.) P starts as N(0, 1), so that packed positions differ from each other.
///
/// Padded positions give nothing and are not counted. Sums are kept in float32 under bfloat16.
class Luna : public Attention {
 public:
  struct Options {
    int64_t packed_length = 16;
    int64_t chunk_length = 64;
    static Fields fields() {
      return {field(&Options::packed_length, "packed_length", "positions of the packed sequence").at_least(1),
              chunk_length_field(&Options::chunk_length)};
    }
  };

  Luna(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {
    packing_query_ = register_parameter(
        "packing_query", torch::randn({geometry.num_kv_heads, options.packed_length, geometry.head_dim}));
  }

  Tensor forward(const Inputs& in) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("luna", in, geometry_, geometry_.causal);
    const auto x = widened(in);
    if (!geometry_.causal) return all_packed(x, in.key_padding).to(in.value.scalar_type());
    Tensor count;  // [B or 1, 1, T, 1]
    if (in.key_padding.defined()) count = per_key(in.key_padding.to(x.key.scalar_type()).cumsum(1).clamp_min(1));
    else count = at::arange(1, sizes.queries + 1, x.key.options()).view({1, 1, -1, 1});
    return causal_packed(x, packing_weights(x.key, in.key_padding), count, {}, {}).to(in.value.scalar_type());
  }

  /// The two sums: `keys` [B, G, D, l] and `values` [B, G, l, E]. Their number is State::length.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    const auto type = options.dtype(accumulation_type(c10::typeMetaToScalarType(options.dtype())));
    const int64_t groups = geometry_.num_kv_heads, length = options_.packed_length;
    return {.tensors = {{"keys", at::zeros({batch, groups, geometry_.head_dim, length}, type)},
                        {"values", at::zeros({batch, groups, length, geometry_.value_dim}, type)}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("luna", in, geometry_, true);
    const auto x = widened(in);
    const auto weights = packing_weights(x.key, {});
    const auto count =
        at::arange(state.length + 1, state.length + sizes.queries + 1, x.key.options()).view({1, 1, -1, 1});
    auto& keys = state.tensors.at("keys");
    auto& values = state.tensors.at("values");
    const auto output = causal_packed(x, weights, count, keys, values);
    keys = keys + at::matmul(x.key.mT(), weights);
    values = values + at::matmul(weights.mT(), x.value);
    state.length += sizes.queries;
    return output.to(in.value.scalar_type());
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto packing = in_double(packing_query_);  // [G, l, D]
    const int64_t keys = in.key.size(2), width = in.value.size(3);
    const double scale = 1 / std::sqrt(static_cast<double>(in.key.size(3)));
    if (!geometry_.causal) {
      std::vector<Tensor> packed_keys, packed_values;
      return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
        if (t == 0) {  // a new head begins
          packed_keys.clear(), packed_values.clear();
          std::vector<Tensor> real_keys, real_values;
          for (int64_t i = 0; i < keys; ++i) {
            if (!is_real(in, b, i)) continue;
            real_keys.push_back(key[b][g][i]);
            real_values.push_back(value[b][g][i]);
          }
          if (!real_keys.empty()) {
            for (const auto& p : packing[g].unbind(0)) {
              packed_keys.push_back(attend(p, real_keys, real_keys, in.key.size(3)));
              packed_values.push_back(attend(p, real_keys, real_values, width));
            }
          }
        }
        return attend(query[b][h][t], packed_keys, packed_values, width);
      });
    }
    Tensor key_sum, value_sum;  // [D, l], [l, E]
    int64_t count = 0;
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      if (t == 0) {
        key_sum = at::zeros({in.key.size(3), packing.size(1)}, packing.options());
        value_sum = at::zeros({packing.size(1), width}, packing.options());
        count = 0;
      }
      if (is_real(in, b, t)) {
        const auto logits = at::mv(packing[g], key[b][g][t]) * scale;
        const auto weights = at::where(logits > 0, logits + 1, at::exp(logits.clamp_max(0)));
        key_sum = key_sum + at::outer(key[b][g][t], weights);
        value_sum = value_sum + at::outer(weights, value[b][g][t]);
        ++count;
      }
      const double mean = 1 / std::max<double>(1, static_cast<double>(count));
      const auto unpacking = at::softmax(at::mv(key_sum.t(), query[b][h][t]) * scale * mean, 0);
      return at::mv(value_sum.t(), unpacking) * mean;
    });
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    return geometry.num_kv_heads * options.packed_length * geometry.head_dim;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double queries = sizes.queries, keys = sizes.keys, d = geometry.head_dim, e = geometry.value_dim;
    const double length = options.packed_length;
    Cost cost;
    cost.algorithmic_flops = 2 * batch * length * (groups * keys * (2 * d + e) + heads * queries * (d + e));
    cost.state_bytes = float_bytes * sizes.batch * geometry.num_kv_heads * options.packed_length *
                       (geometry.head_dim + geometry.value_dim);
    double kept = batch * groups * length * (2 * keys + d + e) + batch * heads * queries;
    if (!geometry.causal) {
      cost.executed_flops = cost.algorithmic_flops;
      if (d != e) kept += batch * heads * queries * length;  // without the fused kernel
    } else {
      CallSizes call{sizes.batch, geometry.num_heads, geometry.num_kv_heads, sizes.queries,
                     sizes.keys,  geometry.head_dim,  options.packed_length};
      const auto logits = causal_sums_cost(call, options.chunk_length);
      call.key_width = options.packed_length, call.value_width = geometry.value_dim;
      const auto outputs = causal_sums_cost(call, options.chunk_length);
      cost.executed_flops = 2 * batch * groups * keys * d * length + logits.flops + outputs.flops;
      kept += logits.kept + outputs.kept + batch * heads * queries * (2 * length + e);
    }
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    return cost;
  }

 private:
  /// In the type that sums are kept in, the query divided by sqrt(D).
  struct Widened {
    Tensor query, key, value;
  };
  static Widened widened(const Inputs& in) {
    const auto type = accumulation_type(in.value.scalar_type());
    const double scale = 1 / std::sqrt(static_cast<double>(in.query.size(3)));
    return {in.query.to(type) * scale, in.key.to(type), in.value.to(type)};
  }

  /// P / sqrt(D) in the type of the keys
  Tensor scaled_packing_query(const Tensor& key) const {
    return packing_query_.to(key.scalar_type()) / std::sqrt(static_cast<double>(key.size(3)));
  }

  Tensor all_packed(const Widened& x, const Tensor& padding) const {
    auto logits = at::matmul(scaled_packing_query(x.key), x.key.mT());  // [B, G, l, S]
    Tensor hidden, visible;
    if (padding.defined()) {
      hidden = padding.logical_not().unsqueeze(1).unsqueeze(1);  // [B, 1, 1, S]
      // Finite, so that a row without real keys stays so; half of the lowest is weight zero beside any logit.
      const double lowest = logits.scalar_type() == torch::kFloat64 ? std::numeric_limits<double>::lowest()
                                                                    : std::numeric_limits<float>::lowest();
      logits = logits.masked_fill(hidden, lowest / 2);
      visible = padding.any(1).view({-1, 1, 1, 1}).expand({-1, 1, 1, options_.packed_length});
    }
    auto weights = at::softmax(logits, -1);
    if (hidden.defined()) weights = weights.masked_fill(hidden, 0);
    const auto packed = at::matmul(weights, at::cat({x.key, x.value}, -1));  // [B, G, l, D + E]
    const int64_t width = x.key.size(3);
    // softmax_attention divides by sqrt(D) too.
    return softmax_attention(x.query * std::sqrt(static_cast<double>(width)), packed.narrow(-1, 0, width),
                             packed.narrow(-1, width, x.value.size(3)), false, visible);
  }

  /// a: [B, G, T, l], zero at padded positions
  Tensor packing_weights(const Tensor& key, const Tensor& padding) const {
    const auto weights = at::elu(at::matmul(key, scaled_packing_query(key).mT())) + 1;
    return padding.defined() ? weights * per_key(padding) : weights;
  }

  /// @param keys, values  the sums of what came before; undefined: nothing did
  Tensor causal_packed(const Widened& x, const Tensor& weights, const Tensor& count, const Tensor& keys,
                       const Tensor& values) const {
    const auto logits = causal_sums(x.query, x.key, weights, keys, options_.chunk_length) / count;  // [B, H, T, l]
    return causal_sums(at::softmax(logits, -1), weights, x.value, values, options_.chunk_length) / count;
  }

  Options options_;
  Tensor packing_query_;  // P
};

const Register<Luna> register_luna{{
    .name = "luna",
    .family = "low-rank",
    .summary = "keys and values packed by a short learnt sequence, to which queries attend; a fixed-size state",
    .equation = "K', V' = softmax(P k^T / sqrt(D)) (k, v), y = softmax(q K'^T / sqrt(D)) V'; causal: "
                "a_s = elu(P k_s / sqrt(D)) + 1, u_t = softmax(q_t sum_{s<=t} k_s a_s^T / (t sqrt(D))), "
                "y_t = u_t sum_{s<=t} a_s v_s^T / t, t counted from 1",
    .source = "Ma et al. 2021, arXiv:2106.01540, sections 3.1 to 3.3; one packed sequence for each layer",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .float32_sums = Float32Sums::always,
    .time_complexity = "T packed_length (D + E)",
    .state_complexity = "packed_length (D + E)",
    .samples = {Json{{"packed_length", 5}, {"chunk_length", 16}}, Json{{"chunk_length", 1}}},
}};

}  // namespace
}  // namespace attnscale
