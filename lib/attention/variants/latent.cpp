// Multi-head latent attention (MLA): keys and values of all heads are rebuilt from one narrow vector per position,
// which is all that decoding keeps. DeepSeek-AI 2024 (DeepSeek-V2), arXiv:2405.04434, section 2.1 and appendix C.
//
// B batch, H heads, T queries, S keys, M width of the residual stream, D key width without positions, R rotary width,
// E value width, C width of the compressed key-value (kv_rank), Q of the compressed query (query_rank)

#include <algorithm>
#include <cmath>
#include <optional>

#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "attention/blocks.h"
#include "attention/logits.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/projections.h"
#include "attention/registry.h"
#include "attention/rotary.h"
#include "tensor/shapes.h"

namespace attnscale {
namespace {

/// Of the authors' code.
constexpr double latent_epsilon = 1e-6;

/// c_s = norm(W_DKV x_s) [C], kr_s = rotary(W_KR x_s) [R], shared by the heads; for head h
///   k_s = [W_UK^h c_s ; kr_s], v_s = W_UV^h c_s, q_t = [W_UQ^h cq_t ; rotary(W_QR^h cq_t)],
///   o_t = sum_s softmax_s(q_t . k_s / sqrt(D + R)) v_s, y_t = W_O [o^1_t ; .. ; o^H_t],
/// with cq = norm(W_DQ x) where query_rank > 0 and cq = x otherwise (as in DeepSeek-V2-Lite). norm is a
/// root-mean-square norm with a learnt scale.
///
/// Absorbed: q . k = (W_UK^T q) . c + .., sum_s a_s W_UV c_s = W_UV sum_s a_s c_s, so that all heads attend to c itself
/// and keys and values are never rebuilt. Decoding always does so; `absorb` makes `forward` do it too, at 2 C + R in
/// place of D + R + E multiplications per pair.
///
/// head_dim is D, value_dim E. Positions are in R numbers alone: a model with this variant needs none of its own. We
/// pair rotary numbers by halves (rotary.h), the authors' code neighbours. Weights start from N(0, 0.02), as the rest
/// of the model, scales at 1.
class LatentAttention : public Attention {
 public:
  struct Options {
    std::optional<int64_t> kv_rank, rotary_dim;
    int64_t query_rank = 0;
    double rotary_base = 10000;
    bool absorb = false;
    static Fields fields() {
      return {
          field(&Options::kv_rank, "kv_rank", "width C of the compressed keys and values; left out: 4 head_dim")
              .between(4, 65536),
          field(&Options::rotary_dim, "rotary_dim",
                "width R of the shared rotary key, even; 0: no positions; left out: head_dim / 2, rounded up to even")
              .between(0, 65536),
          field(&Options::query_rank, "query_rank",
                "width Q of the compressed query; 0: queries straight from the stream")
              .between(0, 65536),
          field(&Options::rotary_base, "rotary_base", "base of the rotary frequencies").above(1),
          field(&Options::absorb, "absorb", "attend to the compressed vectors in the forward pass too; same result"),
      };
    }
  };

  LatentAttention(const Options& options, const Geometry& geometry)
      : Attention(geometry),
        w_(widths(options, geometry)),
        absorb_(options.absorb),
        rotary_(geometry.context, w_.rotary, options.rotary_base) {
    const int64_t H = geometry.num_heads;
    if (w_.query_rank > 0) {
      query_down_ = register_module("query_down", input_projection(w_.stream, w_.query_rank));
      query_scale_ = register_parameter("query_scale", at::ones({w_.query_rank}));
    }
    query_up_ = register_module("query_up", input_projection(w_.query_in(), H * (w_.key + w_.rotary)));
    down_ = register_module("key_value_down", input_projection(w_.stream, w_.rank + w_.rotary));
    scale_ = register_parameter("key_value_scale", at::ones({w_.rank}));
    key_up_ = register_module("key_up", input_projection(w_.rank, H * w_.key));
    value_up_ = register_module("value_up", input_projection(w_.rank, H * w_.value));
    output_ = register_module("output", output_projection(H * w_.value, w_.stream, geometry.depth));
  }

  Tensor forward(const Inputs& in) override {
    check(in);
    const int64_t positions = in.hidden.size(2);
    const auto compressed = compress(in.hidden, 0);
    const auto query = queries(in.hidden, 0);
    Tensor visible;
    if (absorb_ || in.key_padding.defined())
      visible = visible_keys(geometry_.causal ? causal_mask(positions, positions, in.hidden.device()) : Tensor(),
                             in.key_padding);
    return output(absorb_ ? absorbed(query, compressed, visible) : rebuilt(query, compressed, visible));
  }

  /// The compressed vectors and the shared rotary keys so far: C + R numbers per position for all heads together.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    const auto empty = [&](int64_t width) { return at::empty({batch, 1, 0, width}, options); };
    return {.tensors = {{"latent", empty(w_.rank)}, {"rotary_key", empty(w_.rotary)}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    check(in);
    const auto fresh = compress(in.hidden, state.length);
    auto& latent = state.tensors.at("latent");
    auto& rotary_key = state.tensors.at("rotary_key");
    latent = at::cat({latent, fresh.latent}, 2);              // [B, 1, S, C]
    rotary_key = at::cat({rotary_key, fresh.rotary_key}, 2);  // [B, 1, S, R]
    const auto query = queries(in.hidden, state.length);
    state.length += in.hidden.size(2);
    const auto visible = causal_mask(in.hidden.size(2), latent.size(2), in.hidden.device());
    return output(absorbed(query, {latent, rotary_key}, visible));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const int64_t H = geometry_.num_heads, batch = in.hidden.size(0), positions = in.hidden.size(2);
    const auto mapped = [&](const Tensor& x, const std::shared_ptr<Linear>& layer) {
      return at::matmul(x, in_double(layer->parameters()[0]).t());
    };
    const auto norm = [](const Tensor& x, const Tensor& scale) {
      return in_double(scale) * x / (x.square().mean(-1, true) + latent_epsilon).sqrt();
    };
    // One by one from here on; rows[b][h][t].
    const auto by_row = [&](const Tensor& x) { return rows_of(by_head(x)); };
    const auto hidden = in_double(in.hidden);
    const auto down = mapped(hidden, down_);  // [B, 1, T, C + R]
    const auto latent = norm(down.narrow(3, 0, w_.rank), scale_);
    const auto shared = rows_of(down.narrow(3, w_.rank, w_.rotary));
    const auto query =
        by_row(mapped(query_down_ ? norm(mapped(hidden, query_down_), query_scale_) : hidden, query_up_));
    const auto key = by_row(mapped(latent, key_up_)), value = by_row(mapped(latent, value_up_));
    std::vector<Tensor> rotations;
    for (int64_t t = 0; t < positions; ++t) rotations.push_back(rotation(t));

    std::vector<Tensor> rows(static_cast<size_t>(batch * positions * H));
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < H; ++h) {
        std::vector<Tensor> keys, values;
        const auto see = [&](int64_t s) {
          if (!is_real(in, b, s)) return;
          keys.push_back(at::cat({key[b][h][s], at::mv(rotations[s], shared[b][0][s])}));
          values.push_back(value[b][h][s]);
        };
        for (int64_t s = 0; !geometry_.causal && s < positions; ++s) see(s);
        for (int64_t t = 0; t < positions; ++t) {
          if (geometry_.causal) see(t);
          const auto parts = query[b][h][t].split_with_sizes({w_.key, w_.rotary});
          const auto turned = at::cat({parts[0], at::mv(rotations[t], parts[1])});
          rows[static_cast<size_t>((b * positions + t) * H + h)] = attend(turned, keys, values, w_.value);
        }
      }
    }
    return mapped(at::stack(rows).view({batch, 1, positions, H * w_.value}), output_);
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    const auto w = widths(options, geometry);
    const int64_t H = geometry.num_heads;
    return (w.query_rank > 0 ? w.query_rank * (w.stream + 1) : 0) + w.query_in() * H * (w.key + w.rotary) +
           w.stream * (w.rank + w.rotary) + w.rank + w.rank * H * (w.key + w.value) + H * w.value * w.stream;
  }

  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    const auto rotary = widths(options, geometry).rotary;
    if (rotary % 2 == 0) return {};
    return {fmt::format("rotary_dim {} is odd and rotary numbers come in pairs; take {} or {}", rotary, rotary - 1,
                        rotary + 1)};
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto w = widths(options, geometry);
    const double positions = static_cast<double>(sizes.batch * sizes.queries), H = geometry.num_heads;
    const double stream = w.stream, rank = w.rank, rotary = w.rotary, key = w.key, value = w.value;
    const double query_rank = w.query_rank, wide = static_cast<double>(w.fused());
    const double projections =
        positions * (query_rank * stream + static_cast<double>(w.query_in()) * H * (key + rotary) +
                     stream * (rank + rotary) + rank * H * (key + value) + H * value * stream);
    const double square = static_cast<double>(sizes.queries) * static_cast<double>(sizes.queries);
    const double seen = geometry.causal ? causal_pairs(sizes.queries, sizes.queries) : square;
    const double heads = static_cast<double>(sizes.batch) * H;
    const double executed = options.absorb ? 2 * rank + rotary : key + rotary + wide;
    Cost cost;
    cost.algorithmic_flops = 2 * projections + 2 * heads * seen * (key + rotary + value);
    cost.executed_flops = 2 * projections + 2 * heads * square * executed;
    // The compressed vectors before and after their norms, query, key, value and output of every head; absorbed: the
    // query in the latent's width twice over, its output and the weights.
    double kept = positions * (2 * query_rank + 3 * rank + 2 * rotary + H * (key + rotary + value));
    if (options.absorb) kept += positions * H * (3 * rank + rotary) + heads * square;
    else kept += positions * H * (2 * (key + rotary) + wide);
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    cost.state_bytes = float_bytes * sizes.batch * sizes.keys * (w.rank + w.rotary);
    return cost;
  }

 private:
  struct Widths {
    int64_t stream, key, value, rotary, rank, query_rank;  // M, D, E, R, C, Q
    double base;
    int64_t query_in() const { return query_rank > 0 ? query_rank : stream; }
    /// The width of values in the fused kernel, which wants them as wide as the keys.
    int64_t fused() const { return std::max(value, key + rotary); }
  };
  struct Compressed {
    Tensor latent, rotary_key;  // [B, 1, S, C], [B, 1, S, R]
  };
  struct Queries {
    Tensor plain, rotary;  // [B, H, T, D], [B, H, T, R]
  };

  static Widths widths(const Options& options, const Geometry& geometry) {
    return {.stream = geometry.model_dim,
            .key = geometry.head_dim,
            .value = geometry.value_dim,
            .rotary = options.rotary_dim.value_or((geometry.head_dim + 3) / 4 * 2),
            .rank = options.kv_rank.value_or(4 * geometry.head_dim),
            .query_rank = options.query_rank,
            .base = options.rotary_base};
  }

  /// What turns numbers i and i + R/2 by the angle position base^(-2i / R), as a matrix [R, R] (for the oracle).
  Tensor rotation(int64_t position) const {
    const int64_t half = w_.rotary / 2;
    auto matrix = at::zeros({w_.rotary, w_.rotary}, torch::dtype(torch::kFloat64));
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = -static_cast<double>(i) / static_cast<double>(half);
      const double angle = static_cast<double>(position) * std::pow(w_.base, exponent);
      matrix[i][i] = std::cos(angle);
      matrix[i + half][i + half] = std::cos(angle);
      matrix[i][i + half] = -std::sin(angle);
      matrix[i + half][i] = std::sin(angle);
    }
    return matrix;
  }

  void check(const Inputs& in) const {
    check_shapes("latent", {{"hidden", in.hidden, fmt::format("B 1 T {}", w_.stream).c_str()}});
    if (in.key_padding.defined())
      check_shapes("latent", {{"hidden", in.hidden, "B 1 T *"}, {"key_padding", in.key_padding, "B T"}});
  }

  static Tensor normed(const Tensor& x, const Tensor& scale) {
    return at::rms_norm(x, scale.sizes(), scale.to(x.scalar_type()), latent_epsilon).to(x.scalar_type());
  }

  /// [B, N, T, R], turned by position; `offset` is the first row's.
  Tensor turned(const Tensor& x, int64_t offset) {
    if (w_.rotary == 0) return x;
    return rotary_.turn(x.transpose(1, 2), offset).transpose(1, 2);
  }

  Compressed compress(const Tensor& hidden, int64_t offset) {
    const auto down = down_->forward(hidden).split_with_sizes({w_.rank, w_.rotary}, 3);
    return {normed(down[0], scale_), turned(down[1], offset)};
  }

  Queries queries(const Tensor& hidden, int64_t offset) {
    const auto x = query_down_ ? normed(query_down_->forward(hidden), query_scale_) : hidden;
    const auto parts = by_head(query_up_->forward(x)).split_with_sizes({w_.key, w_.rotary}, 3);
    return {parts[0], turned(parts[1], offset)};
  }

  /// [B, 1, T, H width] -> [B, H, T, width], a view
  Tensor by_head(const Tensor& x) const {
    return x.view({x.size(0), x.size(2), geometry_.num_heads, -1}).transpose(1, 2);
  }

  /// Keys and values of every head, then the fused kernel: [B, H, T, E].
  Tensor rebuilt(const Queries& query, const Compressed& compressed, const Tensor& visible) const {
    const auto key = by_head(key_up_->forward(compressed.latent));      // [B, H, S, D]
    auto value = by_head(value_up_->forward(compressed.latent));        // [B, H, S, E]
    value = at::constant_pad_nd(value, {0, w_.fused() - w_.value}, 0);  // the fused kernel wants equal widths
    const auto shared = compressed.rotary_key.expand({-1, geometry_.num_heads, -1, -1});
    const bool causal = geometry_.causal && !visible.defined();
    return softmax_attention(at::cat({query.plain, query.rotary}, 3), at::cat({key, shared}, 3), value, causal, visible)
        .narrow(3, 0, w_.value);
  }

  /// One product per head with a weight of its own, x [B, H, T, in], weight [H, in, out] -> [B, H, T, out].
  static Tensor per_head(const Tensor& x, const Tensor& weight) {
    const int64_t batch = x.size(0), heads = x.size(1), positions = x.size(2);
    const auto rows = x.transpose(0, 1).reshape({heads, batch * positions, x.size(3)});
    return at::bmm(rows, weight).view({heads, batch, positions, weight.size(2)}).transpose(0, 1);
  }

  /// All heads on the compressed vectors themselves: [B, H, T, E].
  Tensor absorbed(const Queries& query, const Compressed& compressed, const Tensor& visible) const {
    const auto up = [&](const std::shared_ptr<Linear>& layer, int64_t width) {
      return layer->parameters()[0].view({geometry_.num_heads, width, w_.rank});
    };
    const auto plain = per_head(query.plain, up(key_up_, w_.key));  // [B, H, T, C]
    const auto wide = at::cat({plain, query.rotary.to(plain.scalar_type())}, 3) *
                      (1 / std::sqrt(static_cast<double>(w_.key + w_.rotary)));
    const auto key = at::cat({compressed.latent, compressed.rotary_key}, 3);                   // [B, 1, S, C + R]
    const auto seen = attend_by_logits(pair_products(wide, key), visible, compressed.latent);  // [B, H, T, C]
    return per_head(seen, up(value_up_, w_.value).mT());
  }

  /// [B, H, T, E] -> [B, 1, T, M]
  Tensor output(const Tensor& heads) const { return output_->forward(heads.transpose(1, 2).flatten(2)).unsqueeze(1); }

  Widths w_;
  bool absorb_;
  Rotary rotary_;
  std::shared_ptr<Linear> query_down_, query_up_, down_, key_up_, value_up_, output_;
  Tensor query_scale_, scale_;  // [Q], [C]
};

const Register<LatentAttention> register_latent{{
    .name = "latent",
    .family = "full",
    .summary = "keys and values rebuilt from one narrow vector per position, all that decoding keeps (MLA)",
    .equation = "c_s = norm(W_DKV x_s), kr_s = rotary(W_KR x_s); per head k_s = [W_UK c_s ; kr_s], v_s = W_UV c_s, "
                "q_t = [W_UQ cq_t ; rotary(W_QR cq_t)]; y = W_O softmax(q k^T / sqrt(D + R)) v",
    .source = "DeepSeek-AI 2024 (DeepSeek-V2), arXiv:2405.04434, section 2.1 and appendix C",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::owns_projections},
    .time_complexity = "T^2",
    .state_complexity = "T (kv_rank + rotary_dim), for all heads together",
    .samples = {Json{{"absorb", true}, {"kv_rank", 12}, {"query_rank", 10}},
                Json{{"rotary_dim", 0}, {"query_rank", 5}}},
    .equalities = {{.statement = "absorbed weights give what rebuilt keys and values give",
                    .options = {{"absorb", true}, {"query_rank", 12}},
                    .other = "latent",
                    .other_options = {{"query_rank", 12}}},
                   {.statement = "absorbed = rebuilt, bidirectional",
                    .options = {{"absorb", true}},
                    .causal = false,
                    .other = "latent",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale
