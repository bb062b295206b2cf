// cosFormer: rectified features with a cosine that favours near keys, which splits into a sum over cosines and a
// sum over sines of single positions. Qin et al. 2022, arXiv:2202.08791, section 3.
//
// B batch, H heads, G key-value heads, T queries, S keys, n keys that a query sees, D key width, E value width,
// M reweighting length

#include <numbers>
#include <optional>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/relu.h>
#include <fmt/format.h>

#include "attention/kernel_attention.h"
#include "attention/kernel_oracle.h"
#include "attention/registry.h"
#include "core/error.h"

namespace attnscale {
namespace {

/// y_t = sum_i w_ti v_i / (sum_i w_ti + 1e-6), w_ti = max(q_t, 0) . max(k_i, 0) cos(pi (t - i) / (2 M)).
///
/// cos(a - b) = cos a cos b + sin a sin b makes 2 D features of D. M is an option and never the length of the
/// sequence at hand, through which later positions would tell how many they are. Both sequences of a
/// cross-attention count their positions from 0. A query whose positive numbers meet none of the keys' gives
/// zeros: which positions interact is a matter of content.
class Cosformer : public KernelAttention {
 public:
  struct Options {
    std::optional<int64_t> reweighting_length;
    int64_t chunk_length = 64;
    static Fields fields() {
      return {field(&Options::reweighting_length, "reweighting_length",
                    "M, the distance at which weights would reach zero; at least the context, which is the default")
                  .at_least(1)
                  .in("positions"),
              chunk_length_field(&Options::chunk_length)};
    }
  };

  Cosformer(const Options& options, const Geometry& geometry)
      : KernelAttention({"cosformer", options.chunk_length, 2 * geometry.head_dim}, geometry),
        length_(options.reweighting_length.value_or(geometry.context)) {}

  Tensor oracle(const Inputs& in) const override {
    return oracle::kernel_mean(in, geometry_.causal, usual_epsilon,
                               [&](const Tensor& q, int64_t t, const oracle::SeenKeys& seen) {
                                 const auto distance = t - seen.positions.to(torch::kFloat64);
                                 const auto cosine = (distance * (std::numbers::pi / 2 / length_)).cos();
                                 return at::mv(seen.keys.clamp_min(0), q.clamp_min(0)) * cosine;
                               });
  }

  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    const int64_t length = options.reweighting_length.value_or(geometry.context);
    if (length >= geometry.context) return {};
    return {
        fmt::format("reweighting_length {} is less than the context {}, and weights would turn negative; take {} or "
                    "more, or leave it out",
                    length, geometry.context, geometry.context)};
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    return cost_of(geometry, sizes, 2 * geometry.head_dim, options.chunk_length);
  }

 protected:
  Tensor query_features(const Tensor& x, int64_t first) override { return features(x, first); }
  Tensor key_features(const Tensor& x, int64_t first) override { return features(x, first); }

 private:
  Tensor features(const Tensor& x, int64_t first) const {
    const int64_t end = first + x.size(2);
    if (end > length_)
      throw ShapeError(
          fmt::format("cosformer: {} positions, but weights are made for {}; raise reweighting_length or "
                      "the context to {}",
                      end, length_, end));
    const auto angle = (at::arange(first, end, x.options().dtype(torch::kFloat64)) *
                        (std::numbers::pi / 2 / static_cast<double>(length_)))
                           .unsqueeze(-1);  // [T, 1]
    const auto positive = at::relu(x);
    return at::cat({positive * angle.cos().to(x.dtype()), positive * angle.sin().to(x.dtype())}, -1);
  }

  int64_t length_;  // M
};

const Register<Cosformer> register_cosformer{{
    .name = "cosformer",
    .family = "linear",
    .summary = "rectified features with a cosine of the distance, so that near keys count more",
    .equation = "y_t = sum_i w_ti v_i / (sum_i w_ti + 1e-6), w_ti = max(q_t, 0) . max(k_i, 0) cos(pi (t - i) / (2 M))",
    .source = "Qin et al. 2022, arXiv:2202.08791, section 3; M fixed, not the length of the sequence",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads, Trait::content_dependent},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D E",
    .state_complexity = "2 D (E + 1)",
    .samples = {Json{{"chunk_length", 16}, {"reweighting_length", 130}}},
}};

}  // namespace
}  // namespace attnscale
