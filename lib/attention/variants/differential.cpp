// Differential attention: the difference of two softmax maps, which cancels what both pay attention to for no reason.
// Ye et al. 2024, arXiv:2410.05258, section 2.1.
//
// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width

#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rms_norm.h>
#include <fmt/format.h>

#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// Of the authors' code, which norms each head by its root mean square (the paper says GroupNorm).
constexpr double differential_epsilon = 1e-5;

/// y = (1 - l0) a norm((A1 - l A2) v), A_i = softmax(q_i k_i^T / sqrt(D / 2)), where q_1, q_2 are the halves of a
/// head's query and k_1, k_2 of its key; l = exp(lq1 . lk1) - exp(lq2 . lk2) + l0, l0 = 0.8 - 0.6 exp(-0.3 layer)
/// with layers counted from 0; norm divides each head's output by its root mean square.
///
/// A head of ours, D wide, is one of theirs with d = D / 2: take half the usual number of heads. The four vectors [D /
/// 2] and the norm's scale a [E] are shared by the heads of a layer, as theirs; the vectors start from N(0, 0.1), a
/// at 1.
///
/// Both maps and, where E = D, both halves of the value go through the fused kernel as heads of their own, since it
/// wants keys and values equally wide; the logits are then computed twice.
class DifferentialAttention : public CachedAttention {
 public:
  struct Options {
    static Fields fields() { return {}; }
  };

  DifferentialAttention(const Options&, const Geometry& geometry)
      : CachedAttention(geometry), initial_lambda_(0.8 - 0.6 * std::exp(-0.3 * static_cast<double>(geometry.layer))) {
    for (const char* name : {"lambda_query1", "lambda_key1", "lambda_query2", "lambda_key2"})
      lambda_parts_.push_back(register_parameter(name, at::randn({geometry.head_dim / 2}) * 0.1));
    scale_ = register_parameter("norm_scale", at::ones({geometry.value_dim}));
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("differential", in, geometry_, false);
    const bool square = geometry_.causal && sizes.queries == sizes.keys && !in.key_padding.defined();
    Tensor visible;
    if (!square)
      visible = visible_keys(geometry_.causal ? causal_mask(sizes.queries, sizes.keys, in.query.device()) : Tensor(),
                             in.key_padding);
    // Copies side by side among the heads: map 1 for every part of the value, then map 2.
    const int64_t parts = value_parts(geometry_);
    const auto by_map = [&](const Tensor& x) {
      const auto halves = x.chunk(2, 3);
      std::vector<Tensor> copies;
      for (int64_t i = 0; i < 2 * parts; ++i) copies.push_back(halves[i / parts]);
      return at::cat(copies, 1);  // [B, 2 parts H, T, D / 2]
    };
    const auto values = in.value.chunk(parts, 3);
    std::vector<Tensor> twice = values;
    twice.insert(twice.end(), values.begin(), values.end());
    const auto maps = softmax_attention(by_map(in.query), by_map(in.key), at::cat(twice, 1), square, visible)
                          .chunk(2 * parts, 1);  // each [B, H, T, E / parts]
    const auto type = accumulation_type(in.value.scalar_type());
    const auto weight = lambda().to(type);
    std::vector<Tensor> differences;
    for (int64_t i = 0; i < parts; ++i) differences.push_back(maps[i].to(type) - weight * maps[parts + i].to(type));
    const auto difference = parts == 1 ? differences[0] : at::cat(differences, 3);  // [B, H, T, E]
    const auto normed = at::rms_norm(difference, {sizes.value_width}, scale_.to(type), differential_epsilon);
    return (normed * (1 - initial_lambda_)).to(in.value.scalar_type());
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const int64_t half = in.query.size(3) / 2, later = in.key.size(2) - in.query.size(2);
    const Rows query[2] = {rows_of(in.query.narrow(3, 0, half)), rows_of(in.query.narrow(3, half, half))};
    const Rows key[2] = {rows_of(in.key.narrow(3, 0, half)), rows_of(in.key.narrow(3, half, half))};
    const auto value = rows_of(in.value);
    const auto part = [&](int64_t i) { return in_double(lambda_parts_[i]); };
    const auto weight = at::dot(part(0), part(1)).exp() - at::dot(part(2), part(3)).exp() + initial_lambda_;
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> keys[2], values;
      for (int64_t i = 0; i < in.key.size(2); ++i) {
        if ((geometry_.causal && i > t + later) || !is_real(in, b, i)) continue;
        for (const int map : {0, 1}) keys[map].push_back(key[map][b][g][i]);
        values.push_back(value[b][g][i]);
      }
      const int64_t width = in.value.size(3);
      const auto difference = attend(query[0][b][h][t], keys[0], values, width) -
                              weight * attend(query[1][b][h][t], keys[1], values, width);
      const auto size = (difference.square().sum() / static_cast<double>(width) + differential_epsilon).sqrt();
      return (1 - initial_lambda_) * in_double(scale_) * difference / size;
    });
  }

  static int64_t parameter_count(const Options&, const Geometry& geometry) {
    return 4 * (geometry.head_dim / 2) + geometry.value_dim;
  }

  static std::vector<std::string> refusals(const Options&, const Geometry& geometry) {
    if (geometry.head_dim % 2 == 0) return {};
    return {fmt::format("differential splits a head's query and key in two, and head_dim {} is odd; take {} or {}",
                        geometry.head_dim, geometry.head_dim - 1, geometry.head_dim + 1)};
  }

  static Cost cost(const Options&, const Geometry& geometry, const Sizes& sizes) {
    const double heads = static_cast<double>(sizes.batch * geometry.num_heads);
    const double groups = static_cast<double>(sizes.batch * geometry.num_kv_heads);
    const double queries = sizes.queries, keys = sizes.keys, square = queries * keys;
    const double d = geometry.head_dim, e = geometry.value_dim, parts = static_cast<double>(value_parts(geometry));
    Cost cost;
    cost.algorithmic_flops =
        2 * heads * (d + 2 * e) * (geometry.causal ? causal_pairs(sizes.queries, sizes.keys) : square);
    cost.executed_flops = 2 * heads * (parts * d + 2 * e) * square;
    // Copies of query, key and value; both outputs, their difference, its norm; the log-sum of each row or its weights.
    const double kept = heads * queries * parts * d + groups * keys * (parts * d + 2 * e) + heads * queries * 4 * e +
                        heads * 2 * (parts == 1 ? square : parts * queries);
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys);
    return cost;
  }

 private:
  static int64_t value_parts(const Geometry& geometry) { return geometry.head_dim == geometry.value_dim ? 2 : 1; }

  Tensor lambda() const {
    const auto product = [&](int64_t i) { return (lambda_parts_[i] * lambda_parts_[i + 1]).sum(); };
    return product(0).exp() - product(2).exp() + initial_lambda_;
  }

  double initial_lambda_;
  std::vector<Tensor> lambda_parts_;  // of query and key of map 1, then of map 2; [D / 2] each
  Tensor scale_;                      // [E]
};

const Register<DifferentialAttention> register_differential{{
    .name = "differential",
    .family = "full",
    .summary = "difference of two softmax maps from the halves of each query and key, then a norm per head",
    .equation = "y = (1 - l0) norm((A1 - l A2) v), A_i = softmax(q_i k_i^T / sqrt(D / 2)), "
                "l = exp(lq1 . lk1) - exp(lq2 . lk2) + l0, l0 = 0.8 - 0.6 exp(-0.3 layer)",
    .source = "Ye et al. 2024, arXiv:2410.05258, section 2.1",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .time_complexity = "T^2",
    .state_complexity = "T",
    .rotary_parts = 2,  // q_1 meets k_1 alone, q_2 meets k_2
}};

}  // namespace
}  // namespace attnscale
