// Random feature attention (RFA): a Gaussian kernel of unit-norm queries and keys, estimated by sines and cosines,
// with an optional gate that forgets. Peng et al. 2021, arXiv:2103.02143, sections 3.1 and 3.2.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, n keys that a query sees, D key width,
// m random projections, E value width

#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "attention/kernel_attention.h"
#include "attention/kernel_oracle.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// Sums of sines and cosines can come near zero or below, which positive kernels cannot; the quotient is taken with at
/// least this, a hundredth of what one equal key gives, whatever m. The authors' code has a floor for features that are
/// not averaged (`EPS`: 1 for a sum over m in its CUDA kernels, so 1 / m of ours; in other files features are scaled by
/// 0.1 first).
constexpr double random_feature_floor = 1e-2;

/// Keeps a zero vector's direction finite; unit norms are right to 1e-12 relative for vectors longer than 1e-3.
constexpr double random_feature_tiny = 1e-18;

/// y_t = phi(q_t) S_t / max(phi(q_t) . z_t, 0.01), phi(x) = [sin W x', cos W x'] / sqrt(m), x' = x / |x|:
/// phi(q) . phi(k) has the mean exp(-|sigma (q' - k')|^2 / 2), which for unit norms is softmax's kernel up to a factor.
/// Without a gate S_t = sum_{i<=t} phi(k_i) v_i^T and z_t = sum_{i<=t} phi(k_i); with it
/// S_t = g_t S_{t-1} + (1 - g_t) phi(k_t) v_t^T and z_t alike, g_t = sigmoid(gate + gate_bias); the authors' code
/// starts its gate's bias at 3, as our default has it.
///
/// W = W_0 diag(sigma), both by key-value head: W_0 [G, m, D] is N(0, 1), drawn once (a buffer; the authors draw anew
/// from a pool in training); sigma [G D] is learnt from 1. Padded keys neither enter nor make the sums decay.
class RandomFeature : public KernelAttention {
 public:
  struct Options {
    int64_t num_features = 64;
    bool gated = false;
    double gate_bias = 3;
    int64_t chunk_length = 64;
    static Fields fields() {
      return {field(&Options::num_features, "num_features", "m; each gives a sine and a cosine").between(8, 65536),
              field(&Options::gated, "gated", "a gate per head and position that forgets (causal only)"),
              field(&Options::gate_bias, "gate_bias", "added to the gate before its sigmoid, where gated is on")
                  .between(-20, 20),
              chunk_length_field(&Options::chunk_length)};
    }
  };

  RandomFeature(const Options& options, const Geometry& geometry)
      : KernelAttention({.name = "random_feature",
                         .chunk_length = options.chunk_length,
                         .features = 2 * options.num_features,
                         .epsilon = 0,
                         .floor = random_feature_floor},
                        geometry),
        options_(options),
        projection_(
            register_buffer("projection", at::randn({geometry.num_kv_heads, options.num_features, geometry.head_dim}))),
        scale_(register_parameter("scale", at::ones({geometry.num_kv_heads * geometry.head_dim}))) {}

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto angles = [&](const Tensor& x) {  // [B, heads, T, D] -> [B, heads, T, m]
      const auto unit = in_double(x) / in_double(x).square().sum(-1, true).sqrt();
      const int64_t groups = geometry_.num_kv_heads;
      const auto map = in_double(projection_) * in_double(scale_).view({groups, 1, -1});  // [G, m, D]
      std::vector<Tensor> heads;
      for (int64_t h = 0; h < x.size(1); ++h)
        heads.push_back(at::matmul(unit.select(1, h), map.select(0, h / (x.size(1) / groups)).t()));
      return at::stack(heads, 1);
    };
    auto mapped = in;
    mapped.query = angles(in.query);
    mapped.key = angles(in.key);
    const auto normaliser = [](const Tensor& sum) { return sum.clamp_min(random_feature_floor); };
    std::vector<std::vector<Tensor>> gates;  // [B][H] of [T]
    if (options_.gated)
      for (const auto& of_batch :
           (in_double(in.gates.at("forget")) + options_.gate_bias).sigmoid().squeeze(-1).unbind(0))
        gates.push_back(of_batch.unbind(0));
    return kernel_mean(
        mapped, geometry_.causal,
        [&](const Tensor& q, int64_t, const SeenKeys& seen) {
          const auto w = (q - seen.keys).cos().mean(-1);  // a mean of sines and cosines of both
          if (!options_.gated) return w;
          // What is left of each key: its own 1 - g, times g of the real positions after it.
          const auto g = gates[seen.batch][seen.head].index_select(0, seen.positions);
          const auto later = at::cat({g.slice(0, 1), at::ones({1}, g.options())}).flip(0).cumprod(0).flip(0);
          return w * (1 - g) * later;
        },
        normaliser);
  }

  static std::vector<Gate> gates(const Options& options, const Geometry&) {
    if (!options.gated) return {};
    return {{"forget", 1}};
  }

  static int64_t parameter_count(const Options&, const Geometry& geometry) {
    return geometry.num_kv_heads * geometry.head_dim;
  }

  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    std::vector<std::string> reasons;
    if (options.gated && !geometry.causal)
      reasons.push_back("random_feature: the gate has no bidirectional form; set gated to false");
    if (options.gated && geometry.num_kv_heads != geometry.num_heads)
      reasons.push_back(
          fmt::format("random_feature: gates belong to heads, so keys must too; set model.num_kv_heads "
                      "to {} or gated to false",
                      geometry.num_heads));
    return reasons;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(geometry, sizes, 2 * options.num_features, options.chunk_length,
                   2.0 * static_cast<double>(options.num_features * geometry.head_dim), options.gated);
  }

 protected:
  Tensor query_features(const Tensor& x, int64_t) override {
    return waves(x, geometry_.num_heads / geometry_.num_kv_heads);
  }
  Tensor key_features(const Tensor& x, int64_t) override { return waves(x, 1); }

  Features features(const Inputs& in, State* state) override {
    auto result = KernelAttention::features(in, state);
    if (!options_.gated) return result;
    const auto gate = in.gates.at("forget").to(result.key.dtype()) + options_.gate_bias;  // [B, H, T, 1]
    result.key = result.key * at::sigmoid(-gate);
    result.log_decay = at::log_sigmoid(gate).squeeze(-1);
    if (in.key_padding.defined()) result.log_decay = result.log_decay * in.key_padding.unsqueeze(1);
    return result;
  }

 private:
  /// [B, times G, T, D] -> [B, times G, T, 2 m]
  Tensor waves(const Tensor& x, int64_t times) const {
    const auto unit = x * ((x * x).sum(-1, true) + random_feature_tiny).rsqrt();
    const auto by_head = [&](const Tensor& of_groups) {  // [G, .., D] -> [times G, .., D]
      const auto cast = of_groups.to(x.dtype());
      return times == 1 ? cast : cast.repeat_interleave(times, 0);
    };
    const auto scale = by_head(scale_.view({geometry_.num_kv_heads, 1, geometry_.head_dim}));
    const auto angle = at::matmul(unit * scale, by_head(projection_).mT());
    return at::cat({angle.sin(), angle.cos()}, -1) / std::sqrt(static_cast<double>(options_.num_features));
  }

  Options options_;
  Tensor projection_, scale_;
};

const Register<RandomFeature> register_random_feature{{
    .name = "random_feature",
    .family = "linear",
    .summary = "a Gaussian kernel of unit-norm query and key by random sines and cosines, with an optional gate (RFA)",
    .equation =
        "y_t = phi(q_t) S_t / max(phi(q_t) . z_t, 0.01), phi(x) = [sin W x', cos W x'] / sqrt(m), x' = x / |x|; "
        "S_t = sum_{i<=t} phi(k_i) v_i^T, gated S_t = g_t S_{t-1} + (1 - g_t) phi(k_t) v_t^T, g_t = sigmoid(gate + "
        "gate_bias); z alike",
    .source = "Peng et al. 2021, arXiv:2103.02143, sections 3.1 and 3.2; drawn once",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T m (D + E)",
    .state_complexity = "2 m (E + 1)",
    .samples = {Json{{"gated", true}, {"gate_bias", 0}, {"chunk_length", 16}}, Json{{"num_features", 16}}},
}};

}  // namespace
}  // namespace attnscale
