// Hedgehog: linear attention with a learnt feature map of softmax form, spiky and monotone as softmax attention is.
// Zhang et al. 2024, arXiv:2402.04347, section 4.
//
// B batch, H heads, G key-value heads, T queries, S keys, n keys that a query sees, D key width, E value width

#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include "attention/kernel_attention.h"
#include "attention/kernel_oracle.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_i w_ti v_i / (sum_i w_ti + 1e-6), w_ti = phi_q(q_t) . phi_k(k_i),
/// phi(x) = [softmax(W x + b), softmax(-W x - b)], with a W and a b for each head's queries and for each head's keys.
///
/// The paper writes exp(W x) and, for stability, takes a softmax over the feature dimension, as its code does and we
/// do. W starts as the identity and b at zero, as the linear layer with a bias does in flash-linear-attention's
/// HedgehogFeatureMap (which takes one softmax over both halves of 2 W x + 2 b; we take two, as the paper). The paper
/// distils W from softmax attention; here it learns with everything else. Holds `query_map` [H, D, D], `query_bias` [H
/// D], `key_map` [G, D, D] and `key_bias` [G D].
class Hedgehog : public KernelAttention {
 public:
  struct Options {
    int64_t chunk_length = 64;
    static Fields fields() { return {chunk_length_field(&Options::chunk_length)}; }
  };

  Hedgehog(const Options& options, const Geometry& geometry)
      : KernelAttention({"hedgehog", options.chunk_length, 2 * geometry.head_dim}, geometry) {
    const auto identity = at::eye(geometry.head_dim);
    query_map_ = register_parameter("query_map", identity.repeat({geometry.num_heads, 1, 1}));
    key_map_ = register_parameter("key_map", identity.repeat({geometry.num_kv_heads, 1, 1}));
    query_bias_ = register_parameter("query_bias", at::zeros({geometry.num_heads * geometry.head_dim}));
    key_bias_ = register_parameter("key_bias", at::zeros({geometry.num_kv_heads * geometry.head_dim}));
  }

  Tensor oracle(const Inputs& in) const override {
    const auto phi = [](const Tensor& x, const Tensor& map, const Tensor& bias) {
      const auto mapped = at::matmul(oracle::in_double(x), oracle::in_double(map).transpose(1, 2)) +
                          oracle::in_double(bias).view({x.size(1), 1, -1});
      const auto up = mapped.exp(), down = mapped.neg().exp();
      return at::cat({up / up.sum(-1, true), down / down.sum(-1, true)}, -1);
    };
    auto mapped = in;
    mapped.query = phi(in.query, query_map_, query_bias_);
    mapped.key = phi(in.key, key_map_, key_bias_);
    return oracle::kernel_mean(
        mapped, geometry_.causal, usual_epsilon,
        [](const Tensor& q, int64_t, const oracle::SeenKeys& seen) { return at::mv(seen.keys, q); });
  }

  static int64_t parameter_count(const Options&, const Geometry& geometry) {
    return (geometry.num_heads + geometry.num_kv_heads) * geometry.head_dim * (geometry.head_dim + 1);
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const double d = geometry.head_dim;
    return cost_of(geometry, sizes, 2 * geometry.head_dim, options.chunk_length, 2 * d * d);
  }

 protected:
  Tensor query_features(const Tensor& x, int64_t) override { return features(x, query_map_, query_bias_); }
  Tensor key_features(const Tensor& x, int64_t) override { return features(x, key_map_, key_bias_); }

 private:
  static Tensor features(const Tensor& x, const Tensor& map, const Tensor& bias) {
    const auto mapped =
        at::matmul(x, map.to(x.dtype()).mT()) + bias.to(x.dtype()).view({x.size(1), 1, -1});  // [B, heads, T, D]
    return at::cat({at::softmax(mapped, -1), at::softmax(-mapped, -1)}, -1);
  }

  Tensor query_map_, key_map_, query_bias_, key_bias_;
};

const Register<Hedgehog> register_hedgehog{{
    .name = "hedgehog",
    .family = "linear",
    .summary = "linear attention with a learnt feature map of softmax form",
    .equation = "y_t = sum_i w_ti v_i / (sum_i w_ti + 1e-6), w_ti = phi(q_t) . phi(k_i), "
                "phi(x) = [softmax(W x + b), softmax(-W x - b)]",
    .source = "Zhang et al. 2024, arXiv:2402.04347, section 4; trained end to end, not distilled",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .float32_sums = Float32Sums::but_for_kernels,
    .time_complexity = "T D (E + D)",
    .state_complexity = "2 D (E + 1)",
    .samples = {Json{{"chunk_length", 16}}},
}};

}  // namespace
}  // namespace attnscale
