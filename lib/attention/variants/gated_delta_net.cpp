// Gated DeltaNet: the block around the gated delta rule, with its own projections, short convolution and gated norm.
// Yang, Kautz and Hatamizadeh 2024, arXiv:2412.06464, section 3.4 and figure 1; as in Qwen3-Next.
//
// B batch, H heads, T positions, M width of the stream, D key width, E value width (expanded), C = H (2 D + E)
// convolved channels, K taps

#include <cmath>

#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>

#include "attention/convolved_block.h"
#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

constexpr double gated_delta_net_epsilon = 1e-6;

/// [q, k, v, z, beta, decay] = W_in u; [q, k, v] = silu(convolution); the rule of `gated_delta` with q / sqrt(D);
/// y = W_out (weight * norm(o) * silu(z)), the norm over each head's E.
///
/// Heads and the key width are the model's; the value width is value_expansion times the model's (the paper: keys of
/// 0.75 M and values of 1.5 M in all). The convolution has no bias; the norm is the root mean square, with one weight
/// [E] for all heads. Holds `in` [H (2 D + 2 E + 2), M], `convolution`, `log_rate`, `step_bias` [H], `norm` [E],
/// `out` [M, H E]. Padded positions enter nothing: the convolution finds zeros there and the state stays.
class GatedDeltaNet : public ConvolvedBlock {
 public:
  struct Options {
    int64_t value_expansion = 2;
    int64_t convolution_width = 4;
    int64_t chunk_length = 64;
    static Fields fields() {
      return {
          field(&Options::value_expansion, "value_expansion", "width of values, in the model's head widths")
              .between(1, 64),
          field(&Options::convolution_width, "convolution_width", "K, taps of the short convolution; 1: only itself")
              .between(1, 64)
              .in("positions"),
          chunk_length_field(&Options::chunk_length)};
    }
  };

  GatedDeltaNet(const Options& options, const Geometry& geometry)
      : ConvolvedBlock(geometry, shape(options, geometry)), options_(options), widths_(widths(options, geometry)) {
    norm_ = register_parameter("norm", at::ones({widths_.value}));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto parameters = named_parameters();
    const auto of = [&](const char* name) { return in_double(parameters[name]); };
    const int64_t batch = in.hidden.size(0), positions = in.hidden.size(2), heads = geometry_.num_heads;
    const int64_t d = geometry_.head_dim;
    const auto hidden = in_double(in.hidden).squeeze(1);  // [B, T, M]
    const auto real = in.key_padding.defined() ? in.key_padding.unsqueeze(-1).to(torch::kFloat64)
                                               : at::ones({batch, positions, 1}, hidden.options());
    const auto silu = [](const Tensor& x) { return x / (1 + x.neg().exp()); };
    const auto parts = (hidden * real).matmul(of("in.weight").t()).split_with_sizes(widths_.parts(), -1);
    // The convolution as its definition: a sum over taps, row by row.
    const auto taps = of("convolution.weight").unbind(1), rows = parts[0].unbind(1);
    std::vector<Tensor> convolved;
    for (int64_t t = 0; t < positions; ++t) {
      auto sum = rows[t] * taps.back();
      for (int64_t j = 1; j < options_.convolution_width && j <= t; ++j)
        sum = sum + rows[t - j] * taps[options_.convolution_width - 1 - j];
      convolved.push_back(silu(sum));
    }
    const auto by_head = [&](const Tensor& x) { return x.unflatten(-1, {heads, -1}).transpose(1, 2); };
    const auto unit = [](const Tensor& x) { return x / (x.square().sum(-1, true) + 1e-6).sqrt(); };
    const auto pieces = at::stack(convolved, 1).split_with_sizes({heads * d, heads * d, heads * widths_.value}, -1);
    const Inputs shaped{.query = unit(by_head(pieces[0])) / std::sqrt(static_cast<double>(d)),
                        .key = unit(by_head(pieces[1])),
                        .value = by_head(pieces[2])};
    const auto query = rows_of(shaped.query), key = rows_of(shaped.key), value = rows_of(shaped.value);
    const auto beta = rows_of(1 / (1 + by_head(parts[2]).neg().exp()));
    const auto step = (by_head(parts[3]) + of("step_bias").view({-1, 1, 1})).exp().log1p();
    const auto decay = rows_of((of("log_rate").exp().view({-1, 1, 1}) * step).neg().exp());
    auto y = for_each_state(shaped, d, [&](int64_t b, int64_t h, int64_t t, Tensor& state) {
      const auto& k = key[b][h][t];
      if (is_real(in, b, t)) {
        state = decay[b][h][t] * state;
        state = state + beta[b][h][t] * at::outer(k, value[b][h][t] - at::mv(state.t(), k));
      }
      return at::mv(state.t(), query[b][h][t]);
    });
    y = y / ((y * y).mean(-1, true) + gated_delta_net_epsilon).sqrt() * of("norm") * silu(by_head(parts[1]));
    return y.transpose(1, 2).flatten(2).matmul(of("out.weight").t()).unsqueeze(1);
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    const auto w = widths(options, geometry);
    return geometry.model_dim * (w.all + geometry.num_heads * w.value) + 2 * geometry.num_heads + w.value +
           ShortConvolution::parameter_count(w.convolved, options.convolution_width, false);
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto w = widths(options, geometry);
    const int64_t heads = geometry.num_heads;
    const CallSizes call{sizes.batch, heads, heads, sizes.queries, sizes.queries, geometry.head_dim, w.value};
    const auto core = delta_rule_cost(call, options.chunk_length);
    const double rows = static_cast<double>(sizes.batch) * sizes.queries, inner = heads * w.value;
    const double projections = 2 * rows * geometry.model_dim * (w.all + inner);
    const double kept = core.kept + rows * (geometry.model_dim + w.all + 6 * w.convolved + 7 * inner);
    return {.algorithmic_flops = projections + 6 * rows * inner * geometry.head_dim,
            .executed_flops = projections + core.flops,
            .activation_bytes = static_cast<int64_t>(float_bytes * kept),
            .state_bytes = state_bytes(shape(options, geometry), geometry.num_heads, sizes.batch)};
  }

 private:
  struct Widths {
    int64_t value, convolved, heads, all;
    std::vector<int64_t> parts() const { return {convolved, heads * value, heads, heads}; }  // qkv, z, beta, decay
  };
  static Widths widths(const Options& options, const Geometry& geometry) {
    const int64_t heads = geometry.num_heads, value = options.value_expansion * geometry.value_dim;
    const int64_t convolved = heads * (2 * geometry.head_dim + value);
    return {value, convolved, heads, convolved + heads * (value + 2)};
  }

  static Shape shape(const Options& options, const Geometry& geometry) {
    const auto w = widths(options, geometry);
    return {.projected = w.all,
            .convolved = w.convolved,
            .taps = options.convolution_width,
            .convolution_bias = false,
            .state_rows = geometry.head_dim,
            .state_width = w.value,
            .inner = geometry.num_heads * w.value};
  }

  /// Everything between the projections: [B, T, H (2 D + 2 E + 2)] -> [B, T, H E]
  Tensor mixed(const Tensor& projected, const Tensor& key_padding, State* state,
               at::ScalarType products) const override {
    const auto type = projected.dtype();
    const int64_t heads = geometry_.num_heads, d = geometry_.head_dim;
    const auto parts = projected.split_with_sizes(widths_.parts(), -1);
    const auto masked = [&](const Tensor& x) { return key_padding.defined() ? x * key_padding.unsqueeze(-1) : x; };
    const auto by_head = [&](const Tensor& x) { return x.unflatten(-1, {heads, -1}).transpose(1, 2); };
    const auto seen = masked(parts[0]);
    const auto history = state ? state->tensors.at("rows") : Tensor();
    const auto convolved = masked(convolution_->forward(seen, history));
    const auto pieces = convolved.split_with_sizes({heads * d, heads * d, heads * widths_.value}, -1);
    const auto query = unit_norm(by_head(pieces[0])) / std::sqrt(static_cast<double>(d));  // [B, H, T, D]
    const auto step = masked(at::softplus(parts[3] + step_bias_.to(type))).mT();           // [B, H, T]
    const auto log_decay = -log_rate_.to(type).exp().unsqueeze(-1) * step;                 // [B, H, T]
    ChunkedCall call{.chunk_length = options_.chunk_length, .products = products};
    if (state) call.initial = state->tensors.at("state"), call.with_state = true;
    const auto done = delta_rule(query, unit_norm(by_head(pieces[1])), by_head(pieces[2]), at::sigmoid(parts[2]).mT(),
                                 log_decay, call);
    if (state) {
      state->tensors.at("state") = done.state;
      state->tensors.at("rows") = convolution_->next_history(seen, history);
    }
    const auto y = rms_normalised(done.outputs, gated_delta_net_epsilon) * norm_.to(type) * at::silu(by_head(parts[1]));
    return y.transpose(1, 2).flatten(2);
  }

  Options options_;
  Widths widths_;
  Tensor norm_;
};

const Register<GatedDeltaNet> register_gated_delta_net{{
    .name = "gated_delta_net",
    .family = "linear",
    .summary = "the Gated DeltaNet block: short convolution, gated delta rule, gated norm, with its own projections",
    .equation =
        "[q, k, v, z, beta, decay] = W_in u, [q, k, v] = silu(conv), "
        "S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}^T k_t)^T, y = W_out (w * norm(S^T q / sqrt(D)) * silu(z))",
    .source = "Yang, Kautz and Hatamizadeh 2024, arXiv:2412.06464, section 3.4",
    .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::owns_projections},
    .time_complexity = "T H E (D + M)",
    .state_complexity = "H D E + (K - 1) H (2 D + E)",
    .samples = {Json{{"value_expansion", 1}, {"convolution_width", 3}, {"chunk_length", 16}}},
    .gate_parameters = {"step_bias"},
}};

}  // namespace
}  // namespace attnscale
