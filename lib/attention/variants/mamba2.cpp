// Mamba-2: the block around the state space core, with its own projections, short convolution and gated norm.
// Dao and Gu 2024, arXiv:2405.21060, section 7 and figure 6.
//
// B batch, H heads, T positions, M width of the stream, I inner width (expand M), P = I / H head width,
// N state width, K taps

#include <cmath>

#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <fmt/format.h>

#include "attention/convolved_block.h"
#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

constexpr double mamba2_epsilon = 1e-5;

/// [z, x, k, q, step] = W_in u; [x, k, q] = silu(convolution); the recurrence of `state_space` for each head of x, with
/// one k and q [N] for all heads; y = W_out (weight * norm((S^T q + skip x) * silu(z))).
///
/// As the authors' code: one group, convolution with bias, the norm (root mean square over all I) behind the gate.
/// Heads are the model's `num_heads`, so P = expand M / H; the paper fixes P = 64.
/// Holds `in` [2 I + 2 N + H, M], `convolution`, `log_rate`, `step_bias`, `skip` [H], `norm` [I], `out` [M, I].
/// Padded positions enter nothing: the convolution finds zeros there and the state stays.
class Mamba2 : public ConvolvedBlock {
 public:
  struct Options {
    int64_t expand = 2;
    int64_t state_dim = 128;
    int64_t convolution_width = 4;
    int64_t chunk_length = 64;
    static Fields fields() {
      return {
          field(&Options::expand, "expand", "inner width, in widths of the stream").between(1, 64),
          field(&Options::state_dim, "state_dim", "N, numbers that a state keeps for each inner channel")
              .between(1, 65536),
          field(&Options::convolution_width, "convolution_width", "K, taps of the short convolution; 1: only itself")
              .between(1, 64)
              .in("positions"),
          chunk_length_field(&Options::chunk_length)};
    }
  };

  Mamba2(const Options& options, const Geometry& geometry)
      : ConvolvedBlock(geometry, shape(options, geometry)), options_(options), widths_(widths(options, geometry)) {
    skip_ = register_parameter("skip", at::ones({geometry.num_heads}));
    norm_ = register_parameter("norm", at::ones({widths_.inner}));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto parameters = named_parameters();
    const auto of = [&](const char* name) { return in_double(parameters[name]); };
    const int64_t batch = in.hidden.size(0), positions = in.hidden.size(2), heads = geometry_.num_heads;
    auto hidden = in_double(in.hidden).squeeze(1);  // [B, T, M]
    const auto real = in.key_padding.defined() ? in.key_padding.unsqueeze(-1).to(torch::kFloat64)
                                               : at::ones({batch, positions, 1}, hidden.options());
    const auto silu = [](const Tensor& x) { return x / (1 + x.neg().exp()); };
    const auto parts = (hidden * real).matmul(of("in.weight").t()).split_with_sizes(widths_.parts(), -1);
    // The convolution as its definition: a sum over taps, row by row.
    const auto taps = of("convolution.weight").unbind(1), rows = parts[1].unbind(1);
    std::vector<Tensor> convolved;
    for (int64_t t = 0; t < positions; ++t) {
      auto sum = of("convolution.bias").expand({batch, -1});
      for (int64_t j = 0; j < options_.convolution_width; ++j)
        if (const int64_t s = t - j; s >= 0) sum = sum + rows[s] * taps[options_.convolution_width - 1 - j];
      convolved.push_back(silu(sum));
    }
    const auto mixed = at::stack(convolved, 1);  // [B, T, I + 2 N]
    const auto by_head = [&](const Tensor& x) { return x.unflatten(-1, {heads, -1}).transpose(1, 2); };
    const auto pieces = mixed.split_with_sizes({widths_.inner, options_.state_dim, options_.state_dim}, -1);
    const Inputs shaped{.query = pieces[2].unsqueeze(1).expand({-1, heads, -1, -1}),
                        .key = pieces[1].unsqueeze(1).expand({-1, heads, -1, -1}),
                        .value = by_head(pieces[0]),
                        .key_padding = in.key_padding};
    const auto query = rows_of(shaped.query), key = rows_of(shaped.key), value = rows_of(shaped.value);
    const auto step = rows_of((by_head(parts[2]) + of("step_bias").view({-1, 1, 1})).exp().log1p());
    const auto rate = of("log_rate").exp().unbind(0), skip = of("skip").unbind(0);
    auto y = for_each_state(shaped, options_.state_dim, [&](int64_t b, int64_t h, int64_t t, Tensor& state) {
      if (!is_real(in, b, t)) return at::mv(state.t(), query[b][h][t]);
      const auto& d = step[b][h][t];
      state = (-rate[h] * d).exp() * state + d * at::outer(key[b][h][t], value[b][h][t]);
      return at::mv(state.t(), query[b][h][t]) + skip[h] * value[b][h][t];
    });
    y = y.transpose(1, 2).flatten(2) * silu(parts[0]);  // [B, T, I]
    y = y / ((y * y).mean(-1, true) + mamba2_epsilon).sqrt() * of("norm");
    return y.matmul(of("out.weight").t()).unsqueeze(1);
  }

  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    const int64_t inner = options.expand * geometry.model_dim;
    if (inner % geometry.num_heads == 0) return {};
    return {fmt::format("mamba2: the inner width {} is not a multiple of num_heads {}; change expand or the heads",
                        inner, geometry.num_heads)};
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    const auto w = widths(options, geometry);
    return geometry.model_dim * (w.all + w.inner) + 3 * geometry.num_heads + w.inner +
           ShortConvolution::parameter_count(w.convolved, options.convolution_width, true);
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto w = widths(options, geometry);
    const CallSizes call{
        sizes.batch, geometry.num_heads, geometry.num_heads, sizes.queries, sizes.queries, options.state_dim, w.head};
    const auto core = scalar_decay_cost(call, 1, options.chunk_length);
    const double rows = static_cast<double>(sizes.batch) * sizes.queries;
    const double projections = 2 * rows * geometry.model_dim * (w.all + w.inner);
    const double kept = core.kept + rows * (geometry.model_dim + w.all +
                                            (options.convolution_width > 1 ? 5 : 4) * w.convolved + 8 * w.inner);
    return {.algorithmic_flops = projections + 4 * rows * w.inner * options.state_dim,
            .executed_flops = projections + core.flops,
            .activation_bytes = static_cast<int64_t>(float_bytes * kept),
            .state_bytes = state_bytes(shape(options, geometry), geometry.num_heads, sizes.batch)};
  }

 private:
  struct Widths {
    int64_t inner, head, convolved, heads, all;
    std::vector<int64_t> parts() const { return {inner, convolved, heads}; }  // z, [x, k, q], step
  };
  static Widths widths(const Options& options, const Geometry& geometry) {
    const int64_t inner = options.expand * geometry.model_dim, convolved = inner + 2 * options.state_dim;
    return {inner, inner / geometry.num_heads, convolved, geometry.num_heads, inner + convolved + geometry.num_heads};
  }

  static Shape shape(const Options& options, const Geometry& geometry) {
    const auto w = widths(options, geometry);
    return {.projected = w.all,
            .convolved = w.convolved,
            .taps = options.convolution_width,
            .convolution_bias = true,
            .state_rows = options.state_dim,
            .state_width = w.head,
            .inner = w.inner};
  }

  /// Everything between the projections: [B, T, 2 I + 2 N + H] -> [B, T, I]
  Tensor mixed(const Tensor& projected, const Tensor& key_padding, State* state,
               at::ScalarType products) const override {
    const auto type = projected.dtype();
    const int64_t heads = geometry_.num_heads;
    const auto parts = projected.split_with_sizes(widths_.parts(), -1);
    const auto masked = [&](const Tensor& x) { return key_padding.defined() ? x * key_padding.unsqueeze(-1) : x; };
    const auto seen = masked(parts[1]);
    const auto history = state ? state->tensors.at("rows") : Tensor();
    const auto convolved = masked(convolution_->forward(seen, history));
    const auto pieces = convolved.split_with_sizes({widths_.inner, options_.state_dim, options_.state_dim}, -1);
    const auto value = pieces[0].unflatten(-1, {heads, widths_.head}).transpose(1, 2);          // [B, H, T, P]
    const auto step = masked(at::softplus(parts[2] + step_bias_.to(type))).mT().unsqueeze(-1);  // [B, H, T, 1]
    const auto log_decay = -log_rate_.to(type).exp().unsqueeze(-1) * step.squeeze(-1);          // [B, H, T]
    ChunkedCall call{.chunk_length = options_.chunk_length, .products = products};
    if (state) call.initial = state->tensors.at("state"), call.with_state = true;
    const auto done = scalar_decay(pieces[2].unsqueeze(1), pieces[1].unsqueeze(1), value * step, log_decay, call);
    if (state) {
      state->tensors.at("state") = done.state;
      state->tensors.at("rows") = convolution_->next_history(seen, history);
    }
    const auto y = done.outputs + skip_.to(type).view({-1, 1, 1}) * value;
    return rms_normalised(y.transpose(1, 2).flatten(2) * at::silu(parts[0]), mamba2_epsilon) * norm_.to(type);
  }

  Options options_;
  Widths widths_;
  Tensor skip_, norm_;
};

const Register<Mamba2> register_mamba2{{
    .name = "mamba2",
    .family = "linear",
    .summary = "the Mamba-2 block: short convolution, state space core, gated norm, with its own projections",
    .equation = "[z, x, k, q, step] = W_in u, [x, k, q] = silu(conv), S_t = exp(d_t A) S_{t-1} + d_t k_t x_t^T, "
                "y = W_out (w * norm((S^T q + skip x) * silu(z)))",
    .source = "Dao and Gu 2024, arXiv:2405.21060, section 7; one group, heads of width expand M / H",
    .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::owns_projections},
    .time_complexity = "T I (N + M), I = expand M",
    .state_complexity = "I N + (K - 1) (I + 2 N)",
    .samples = {Json{{"expand", 1}, {"state_dim", 5}, {"convolution_width", 3}, {"chunk_length", 16}}},
    .gate_parameters = {"step_bias"},
}};

}  // namespace
}  // namespace attnscale
