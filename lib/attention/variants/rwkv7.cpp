// RWKV-7: a state that decays by dimension, from which a removal key takes what it finds, at learning rates by
// dimension, before the new value is written. Peng et al. 2025, arXiv:2503.14456, section 4.1.
//
// B batch, H heads, T positions, n chunks of c positions, D key width, E value width

#include <algorithm>
#include <cmath>

#include <ATen/ops/addcmul.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// No dimension decays faster than exp(-exp(-1/2)) = 0.545 a position (the paper's bound).
const double rwkv7_fastest = std::exp(-0.5);

/// [H D]: the slowest channel first, and slower ones the more the deeper the layer lies.
Tensor rwkv7_decay_bias(const Geometry& geometry) {
  const int64_t channels = geometry.num_heads * geometry.head_dim;
  const double depth =
      static_cast<double>(geometry.layer) / static_cast<double>(std::max<int64_t>(1, geometry.depth - 1));
  const auto place = at::arange(channels, torch::kFloat64) / static_cast<double>(std::max<int64_t>(1, channels - 1));
  return (5 * place.pow(0.85 + std::sqrt(depth)) - 6.5).to(torch::kFloat32);
}

/// S_t = (diag(w_t) - (a_t * r_t) r_t^T) S_{t-1} + k~_t v_t^T, y_t = S_t^T q_t, with
/// w_t = exp(-exp(-1/2) sigmoid(decay_bias + decay_t)), a_t = sigmoid(rate_t) (the in-context learning rate),
/// r_t = k_t * removal at unit norm, k~_t = k_t * (1 + (a_t - 1) * replacement).
///
/// The paper's names: its receptance is our query, kappa is r. The recurrence alone: token shift, value residual,
/// bonus, group norm and output gate of the block are not here, and gates are full projections, not of low rank.
/// Holds `decay_bias`, `removal` (from 0.85) and `replacement` (from 1), [H D] each, the authors' initial values:
/// channel n of C = H D starts with decay_bias = -6.5 + 5 (n / (C - 1))^(0.85 + sqrt(layer / (depth - 1))) (`w0` of
/// their RWKV_Tmix_x070), half-lives from some 760 positions down to 6.
///
/// By chunks: what removal keys find in a chunk solves one triangular system. Decays of key pairs are products of two
/// factors taken from the chunk's middle; as decays are bounded, factors of 64 positions stay below exp(20).
/// Padded positions leave the state as it was.
class Rwkv7 : public Attention {
 public:
  struct Options {
    int64_t chunk_length = 32;
    static Fields fields() {
      return {field(&Options::chunk_length, "chunk_length", "longest chunk; changes speed and rounding, not the result")
                  .between(1, 64)
                  .in("positions")};
    }
  };

  Rwkv7(const Options& options, const Geometry& geometry)
      : Attention(geometry),
        options_(options),
        decay_bias_(register_parameter("decay_bias", rwkv7_decay_bias(geometry))),
        removal_(register_parameter("removal", at::full({geometry.num_heads * geometry.head_dim}, 0.85))),
        replacement_(register_parameter("replacement", at::ones({geometry.num_heads * geometry.head_dim}))) {}

  Tensor forward(const Inputs& in) override {
    const FullPrecision sums_stay_float32;
    checked_sizes("rwkv7", in, geometry_, true);
    return run(in, {}, false).outputs.to(in.value.scalar_type());
  }

  /// One tensor [B, H, D, E].
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    const auto type = accumulation_type(c10::typeMetaToScalarType(options.dtype()));
    return {.tensors = {{"state", at::zeros({batch, geometry_.num_heads, geometry_.head_dim, geometry_.value_dim},
                                            options.dtype(type))}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("rwkv7", in, geometry_, true);
    const auto result = run(in, state.tensors.at("state"), true);
    state.tensors.at("state") = result.state;
    state.length += sizes.queries;
    return result.outputs.to(in.value.scalar_type());
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto by_head = [&](const Tensor& x) { return in_double(x).view({geometry_.num_heads, 1, -1}); };
    const auto sigmoid = [](const Tensor& x) { return 1 / (1 + x.neg().exp()); };
    const auto keys = in_double(in.key), removed = keys * by_head(removal_);
    const auto rates = sigmoid(in_double(in.gates.at("rate")));
    const auto query = rows_of(in.query), value = rows_of(in.value), rate = rows_of(rates);
    const auto removal = rows_of(removed / (removed.square().sum(-1, true) + 1e-6).sqrt());
    const auto key = rows_of(keys * (1 + (rates - 1) * by_head(replacement_)));
    const auto decay =
        rows_of((sigmoid(in_double(in.gates.at("decay")) + by_head(decay_bias_)) * -std::exp(-0.5)).exp());
    return for_each_state(in, in.key.size(3), [&](int64_t b, int64_t h, int64_t t, Tensor& state) {
      if (is_real(in, b, t)) {
        const auto& r = removal[b][h][t];
        const auto found = at::mv(state.t(), r);  // [E]
        state = decay[b][h][t].unsqueeze(-1) * state - at::outer(rate[b][h][t] * r, found) +
                at::outer(key[b][h][t], value[b][h][t]);
      }
      return at::mv(state.t(), query[b][h][t]);
    });
  }

  static std::vector<Gate> gates(const Options&, const Geometry& geometry) {
    return {{"decay", geometry.head_dim}, {"rate", geometry.head_dim}};
  }

  static int64_t parameter_count(const Options&, const Geometry& geometry) {
    return 3 * geometry.num_heads * geometry.head_dim;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto blocks = even_blocks(sizes.queries, options.chunk_length);
    const double n = blocks.count, c = blocks.length, d = geometry.head_dim, e = geometry.value_dim;
    const double heads = static_cast<double>(sizes.batch) * geometry.num_heads;
    Cost cost;
    cost.algorithmic_flops = 8 * heads * sizes.queries * d * e;  // find, remove, write, read
    cost.executed_flops = 2 * heads * n * c * c * (4 * d + 3 * e);
    double kept = heads * n * (11 * c * c + 4 * c * e) + heads * sizes.queries * 16 * d;
    if (blocks.count > 1) {
      cost.executed_flops += 2 * heads * (2 * n + 2 * (n - 1)) * c * d * e;
      kept += heads * n * (2 * d * e + c * (3 * d + e));
    }
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    cost.state_bytes = float_bytes * sizes.batch * geometry.num_heads * geometry.head_dim * geometry.value_dim;
    return cost;
  }

 private:
  Recurred run(const Inputs& in, const Tensor& initial, bool with_state) const {
    const auto type = accumulation_type(in.value.scalar_type());
    const auto blocks = even_blocks(in.query.size(2), options_.chunk_length);
    const auto [n, c] = blocks;
    const auto cut = [&, &blocks = blocks](const Tensor& x) {
      return key_blocks(in.key_padding.defined() ? x * per_key(in.key_padding) : x, blocks);
    };
    const auto wide_key = in.key.to(type), rate = at::sigmoid(in.gates.at("rate").to(type));
    const auto by_head = [&](const Tensor& x) { return x.to(type).view({geometry_.num_heads, 1, -1}); };
    const auto query = key_blocks(in.query.to(type), blocks);                   // [B, H, n, c, D]
    const auto removal = cut(unit_norm(wide_key * by_head(removal_)));          // [B, H, n, c, D]
    const auto key = cut(wide_key * (1 + (rate - 1) * by_head(replacement_)));  // [B, H, n, c, D]
    const auto value = cut(in.value.to(type));                                  // [B, H, n, c, E]
    const auto log_decay =
        cut(at::sigmoid(in.gates.at("decay").to(type) + by_head(decay_bias_)) * -rwkv7_fastest);  // [B, H, n, c, D]
    const auto sum = log_decay.cumsum(3);
    // It cancels, but only up to rounding, through which later positions would have a gradient.
    const auto middle = sum.narrow(3, c / 2, 1).detach();

    // Rows that read the state: removal keys before their own position's decay, queries after it. Rows that write:
    // new keys, and what removal keys take away.
    const auto reads = at::cat({removal * (sum - log_decay - middle).exp(), query * (sum - middle).exp()}, 3);
    const auto written = at::cat({key, -key_blocks(rate, blocks) * removal}, 3);  // [B, H, n, 2 c, D]
    const auto twice = at::cat({sum, sum}, 3);
    const auto products = at::matmul(reads, (written * (middle - twice).exp()).mT());  // [B, H, n, 2 c, 2 c]
    const auto part = [&, c = c](int64_t i, int64_t j) { return products.narrow(3, i * c, c).narrow(4, j * c, c); };

    const bool has_past = n > 1 || initial.defined();
    auto right = at::matmul(part(0, 0).tril(-1), value);
    if (has_past) right = at::cat({right, removal * (sum - log_decay).exp()}, -1);
    // found_t = sum_{i<t} (read_t . key_i) v_i - sum_{i<t} (read_t . (rate r)_i) found_i + read_t S
    const auto solved = at::linalg_solve_triangular(-part(0, 1).tril(-1), right, /*upper=*/false, /*left=*/true,
                                                    /*unitriangular=*/true);
    const auto weights = at::cat({part(1, 0).tril(), part(1, 1).tril()}, 4);  // [B, H, n, c, 2 c]
    const auto last = sum.narrow(3, c - 1, 1);                                // [B, H, n, 1, D]
    const auto late = (written * (last - twice).exp()).mT();                  // [B, H, n, D, 2 c]
    Recurred result;
    if (!has_past) {
      const auto both = at::cat({value, solved}, 3);
      result.outputs = joined_blocks(at::matmul(weights, both), in.query.size(1), in.query.size(2));
      if (with_state) result.state = at::matmul(late, both).squeeze(2);
      return result;
    }
    const int64_t width = value.size(-1);
    const auto own = solved.narrow(-1, 0, width).unbind(2),
               from_past = solved.narrow(-1, width, key.size(-1)).unbind(2);
    const auto values = value.unbind(2), writes = late.unbind(2), left_over = last.exp().mT().unbind(2);
    std::vector<Tensor> states, all;
    auto state = initial.defined() ? initial : at::zeros({key.size(0), key.size(1), key.size(4), width}, key.options());
    for (int64_t i = 0; i < n; ++i) {
      states.push_back(state);
      all.push_back(at::cat({values[i], own[i] + at::matmul(from_past[i], state)}, 2));  // [B, H, 2 c, E]
      if (i + 1 < n || with_state) state = at::addcmul(at::matmul(writes[i], all[i]), left_over[i], state);
    }
    const auto outputs = at::matmul(weights, at::stack(all, 2)) + at::matmul(query * sum.exp(), at::stack(states, 2));
    result.outputs = joined_blocks(outputs, in.query.size(1), in.query.size(2));
    result.state = state;
    return result;
  }

  Options options_;
  Tensor decay_bias_, removal_, replacement_;  // [H D]
};

const Register<Rwkv7> register_rwkv7{{
    .name = "rwkv7",
    .family = "linear",
    .summary =
        "a state that decays by dimension and from which a removal key takes what it finds (RWKV-7's recurrence)",
    .equation =
        "S_t = (diag(w_t) - (a_t * r_t) r_t^T) S_{t-1} + k~_t v_t^T, y_t = S_t^T q_t, "
        "w_t = exp(-exp(-1/2) sigmoid(decay_bias + decay_t)), a_t = sigmoid(rate_t), r_t = unit(k_t * removal), "
        "k~_t = k_t * (1 + (a_t - 1) * replacement)",
    .source = "Peng et al. 2025, arXiv:2503.14456, section 4.1; the recurrence without the block around it",
    .traits = {Trait::causal, Trait::padding, Trait::incremental},
    .float32_sums = Float32Sums::always,
    .time_complexity = "T D E",
    .state_complexity = "D E",
    .samples = {Json{{"chunk_length", 16}}},
}};

}  // namespace
}  // namespace attnscale
