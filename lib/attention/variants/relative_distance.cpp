// Relative positions of Transformer-XL: a query meets a key's content and, by weights of its own, its distance. Dai et
// al. 2019, arXiv:1901.02860, section 3.3. Their recurrence over segments is segment_recurrent's.
//
// B batch, H heads, G key-value heads (G divides H), T queries, S keys, L distances, D key width, E value width, M
// model width

#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/logits.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_s softmax_s(((q_t + u) . k_s + (q_t + v) . W R_{t-s}) / sqrt(D)) v_s: terms a to d of the paper's
/// equation. R_d is sin(d w_i) and then cos(d w_i) with w_i = 10000^(-2 i / M), W maps it to every head, u and v are of
/// each head. W starts from N(0, 1 / M), u and v at 0; theirs all from N(0, 0.02). A bias that the model adds to the
/// logits comes on top.
///
/// Bidirectional, keys that come later have negative distances, as in XLNet (Yang et al. 2019, arXiv:1906.08237). The
/// products with all distances are made and then shifted into place, as in the paper's appendix B. Decoding makes W R
/// anew at each call, 2 S M H D FLOPs, rather than keep as much again as the keys.
class RelativeDistance : public CachedAttention {
 public:
  struct Options {
    static const Fields& fields() {
      static const Fields none;
      return none;
    }
  };

  RelativeDistance(const Options&, const Geometry& geometry) : CachedAttention(geometry) {
    const int64_t H = geometry.num_heads, D = geometry.head_dim, M = geometry.model_dim;
    distance_map_ = register_parameter("distance_map", at::randn({H * D, M}) / std::sqrt(static_cast<double>(M)));
    content_ = register_parameter("content", at::zeros({H, D}));
    distance_ = register_parameter("distance", at::zeros({H, D}));
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("relative_distance", in, geometry_, false);
    const double scale = 1 / std::sqrt(static_cast<double>(sizes.key_width));
    const auto moved = [&](const Tensor& by) {
      return (in.query + by.to(in.query.scalar_type()).unsqueeze(1)) * scale;
    };
    auto logits = pair_products(moved(content_), in.key);
    logits = logits.to(accumulation_type(logits.scalar_type()));  // [B, H, T, S]
    const auto places = at::matmul(moved(distance_), distances(sizes.queries, sizes.keys, in.query).mT());
    logits = logits + in_place(places.to(logits.scalar_type()), sizes.keys);
    if (in.bias.defined()) logits = logits + in.bias.to(logits.scalar_type());
    const auto mask = geometry_.causal ? causal_mask(sizes.queries, sizes.keys, in.query.device()) : Tensor();
    return attend_by_logits(logits, visible_keys(mask, in.key_padding), in.value);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto map = in_double(distance_map_).unflatten(0, {geometry_.num_heads, -1}).unbind(0);  // [D, M] of each head
    const auto content = in_double(content_).unbind(0), distance = in_double(distance_).unbind(0);
    const int64_t later = in.key.size(2) - in.query.size(2), M = geometry_.model_dim, sines = (M + 1) / 2;
    const auto sinusoid = [&](int64_t d) {
      std::vector<double> numbers;
      for (int64_t i = 0; i < M; ++i) {
        const double pair = static_cast<double>(i < sines ? i : i - sines);
        const double angle = static_cast<double>(d) * std::pow(10000.0, -2 * pair / static_cast<double>(M));
        numbers.push_back(i < sines ? std::sin(angle) : std::cos(angle));
      }
      return torch::tensor(numbers, torch::kFloat64);
    };
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      const auto& q = query[b][h][t];
      std::vector<Tensor> logits, values;
      for (int64_t i = 0; i < in.key.size(2); ++i) {
        if ((geometry_.causal && i > t + later) || !is_real(in, b, i)) continue;
        const auto r = at::mv(map[h], sinusoid(t + later - i));
        auto logit = (q + content[h]).dot(key[b][g][i]) + (q + distance[h]).dot(r);
        logit = logit / std::sqrt(static_cast<double>(in.key.size(3)));
        logits.push_back(in.bias.defined() ? logit + in_double(in.bias[0][h][t][i]) : logit);
        values.push_back(value[b][g][i]);
      }
      if (logits.empty()) return at::zeros({in.value.size(3)}, q.options());
      return at::mv(at::stack(values).t(), at::softmax(at::stack(logits), 0));
    });
  }

  static int64_t parameter_count(const Options&, const Geometry& geometry) {
    return geometry.num_heads * geometry.head_dim * (geometry.model_dim + 2);
  }

  static Cost cost(const Options&, const Geometry& geometry, const Sizes& sizes) {
    const double heads = static_cast<double>(sizes.batch * geometry.num_heads);
    const double D = static_cast<double>(geometry.head_dim), E = static_cast<double>(geometry.value_dim);
    const double width = static_cast<double>(geometry.num_heads * geometry.head_dim);
    const double M = static_cast<double>(geometry.model_dim), queries = static_cast<double>(sizes.queries);
    const double places = static_cast<double>(num_distances(geometry, sizes.queries, sizes.keys));
    const double square = queries * static_cast<double>(sizes.keys), mapped = 2 * places * M * width;
    const double pairs = geometry.causal ? causal_pairs(sizes.queries, sizes.keys) : square;
    // The weights, the two queries, and the distances before and after their map.
    const double kept = heads * (square + 2 * queries * D) + places * (M + width);
    return {.algorithmic_flops = heads * pairs * 2 * (2 * D + E) + mapped,
            .executed_flops = heads * 2 * (square * (D + E) + queries * places * D) + mapped,
            .activation_bytes = static_cast<int64_t>(float_bytes * kept),
            .state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys)};
  }

 private:
  /// L: from S - 1 down to 0, bidirectional to -(T - 1).
  static int64_t num_distances(const Geometry& geometry, int64_t queries, int64_t keys) {
    return keys + (geometry.causal ? 0 : queries - 1);
  }

  /// W R by head, the largest distance first: [H, L, D]
  Tensor distances(int64_t queries, int64_t keys, const Tensor& like) const {
    const int64_t M = geometry_.model_dim, count = num_distances(geometry_, queries, keys);
    const auto exact = torch::dtype(torch::kFloat64).device(like.device());
    const auto frequencies = (at::arange((M + 1) / 2, exact) * (-2 * std::log(10000.0) / static_cast<double>(M))).exp();
    const auto angles = at::outer(static_cast<double>(keys - 1) - at::arange(count, exact), frequencies);
    const auto sinusoids = at::cat({angles.sin(), angles.cos()}, 1).narrow(1, 0, M).to(like.scalar_type());
    const auto mapped = at::linear(sinusoids, distance_map_.to(like.scalar_type()));  // [L, H D]
    return mapped.view({count, geometry_.num_heads, -1}).transpose(0, 1);
  }

  /// [B, H, T, L] -> [B, H, T, S]: query t of T finds key s at column s + T - 1 - t. Read as rows that are one number
  /// shorter, each row begins one column further left.
  Tensor in_place(const Tensor& places, int64_t keys) const {
    const int64_t queries = places.size(2);
    if (queries == 1) return places;
    const auto whole = geometry_.causal ? at::constant_pad_nd(places, {0, queries - 1}) : places;
    const int64_t shorter = whole.size(3) - 1;
    return whole.flatten(2)
        .narrow(2, queries - 1, queries * shorter)
        .unflatten(2, {queries, shorter})
        .narrow(3, 0, keys);
  }

  Tensor distance_map_, content_, distance_;  // W [H D, M], u [H, D], v [H, D]
};

const Register<RelativeDistance> register_relative_distance{{
    .name = "relative_distance",
    .family = "full",
    .summary = "a key's distance has weights of its own (Transformer-XL)",
    .equation = "y_t = sum_s softmax_s(((q_t + u) . k_s + (q_t + v) . W R_{t-s}) / sqrt(D)) v_s, R_d sines and cosines "
                "of d",
    .source = "Dai et al. 2019, arXiv:1901.02860, section 3.3",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads,
               Trait::logit_bias},
    .time_complexity = "T^2",
    .state_complexity = "T",
    .equalities = {{.statement = "with its parameters at zero it is softmax",
                    .other = "softmax",
                    .prepare =
                        [](Attention& attention) {
                          for (auto& parameter : attention.parameters()) parameter.zero_();
                        }},
                   {.statement = "bidirectional, likewise",
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false,
                    .prepare =
                        [](Attention& attention) {
                          for (auto& parameter : attention.parameters()) parameter.zero_();
                        }}},
    .rotary_parts = 0,
    .no_rotary = "distances have weights of their own here",
}};

}  // namespace
}  // namespace attnscale
