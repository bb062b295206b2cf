#pragma once

// A variant that exists for the tests only, and models small enough to check by hand.

#include <set>

#include <ATen/ops/cumsum.h>
#include <ATen/ops/zeros.h>

#include "attention/registry.h"
#include "model/options.h"

namespace attnscale {

/// y_t = sum_{s <= t} scale_h gate_s v_s: a gate, parameters drawn at random, a state, no matrix product.
class GatedSum : public Attention {
 public:
  struct Options {
    int64_t window = 4;
    static const Fields& fields() {
      static const Fields list = {field(&Options::window, "window", "no effect").between(1, 64)};
      return list;
    }
  };
  GatedSum(const Options&, const Geometry& geometry)
      : Attention(geometry), scale_(register_parameter("scale", torch::randn({geometry.num_heads, 1, 1}))) {}

  Tensor forward(const Inputs& in) override { return at::cumsum(in.gates.at("input") * in.value * scale_, 2); }

  State new_state(int64_t batch, torch::TensorOptions options) const override {
    return {.tensors = {{"sum", at::zeros({batch, geometry_.num_heads, 1, geometry_.value_dim}, options)}}};
  }
  Tensor decode(const Inputs& in, State& state) override {
    auto& sum = state.tensors.at("sum");
    const auto out = sum + forward(in);
    sum = out.narrow(2, out.size(2) - 1, 1);
    state.length += in.value.size(2);
    return out;
  }
  Tensor oracle(const Inputs& in) const override { return in.value; }

  static Cost cost(const Options&, const Geometry& geometry, const Sizes& sizes) {
    return {.activation_bytes = 0, .state_bytes = sizes.batch * geometry.num_heads * geometry.value_dim * 4};
  }
  static int64_t parameter_count(const Options&, const Geometry& geometry) { return geometry.num_heads; }
  static std::vector<Gate> gates(const Options&, const Geometry&) { return {{"input", 1}}; }
  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    if (options.window > geometry.context) return {"window is larger than the context; take 1 to the context"};
    return {};
  }

 private:
  Tensor scale_;
};

/// Registers `gated_sum` while it lives.
class WithGatedSum {
 public:
  explicit WithGatedSum(std::set<Trait> traits = {Trait::causal, Trait::incremental}) {
    VariantInfo info;
    info.name = "gated_sum";
    info.family = "linear";
    info.traits = std::move(traits);
    const Register<GatedSum> registered{std::move(info)};
  }
  ~WithGatedSum() { unregister_variant("gated_sum"); }
};

inline AttentionChoice gated_sum() { return {.variant = "gated_sum"}; }

/// Odd sizes on purpose: an axis taken for another shows.
inline ModelOptions small_options(ModelOptions options = {}) {
  options.depth = 2;
  options.model_dim = 12;
  options.num_heads = 3;
  return resolved(options, 11);
}

struct Architecture {
  std::string name;
  ModelOptions options;
};

/// Every choice of every option of the model at least once, around softmax.
inline std::vector<Architecture> architectures() {
  return {
      {"GPT-2", small_options()},
      {"Llama", small_options({.num_kv_heads = 1,
                               .position = "rotary",
                               .norm = "rms_norm",
                               .feed_forward = "swiglu",
                               .bias = false,
                               .tie_embeddings = false})},
      {"sinusoidal", small_options({.position = "sinusoidal", .feed_forward = "gelu_tanh", .bias = false})},
      {"no positions", small_options({.num_kv_heads = 3, .position = "none", .norm = "rms_norm"})},
      {"after", small_options({.norm_placement = "after", .feed_forward = "relu"})},
      {"both",
       small_options(
           {.norm = "rms_norm", .norm_placement = "both", .feed_forward = "geglu_tanh", .embedding_scale = true})},
      {"DeepNorm", small_options({.norm_placement = "deep_norm", .feed_forward = "relu_squared"})},
      {"parallel", small_options({.position = "rotary", .norm_placement = "parallel", .initialisation = "small"})},
      {"dynamic tanh", small_options({.norm = "dynamic_tanh", .feed_forward = "silu", .initialisation = "xavier"})},
      {"dynamic tanh without biases", small_options({.norm = "dynamic_tanh", .norm_placement = "both", .bias = false})},
      {"no norm", small_options({.norm = "none", .residual = "rezero", .initialisation = "kaiming"})},
      {"no final norm", small_options({.final_norm = false, .residual = "scaled"})},
      {"logits by 1 / D", small_options({.position = "rotary", .logit_scale = "inverse"})},
      {"logits as they are", small_options({.logit_scale = "none"})},
      {"query-key RMSNorm", small_options({.num_kv_heads = 1, .position = "rotary", .qk_norm = "rms_norm"})},
      {"query-key LayerNorm", small_options({.qk_norm = "layer_norm", .feed_forward = "geglu"})},
      {"layer scale",
       small_options({.residual = "layer_scale", .feed_forward = "reglu", .initialisation = "orthogonal"})},
      {"factorised", small_options({.ffn_multiple = 2.5, .embedding_dim = 5, .embedding_norm = true})},
      {"factorised, untied", small_options({.tie_embeddings = false, .embedding_dim = 7, .embedding_dropout = 0.1})},
      {"part rotary, interpolated",
       small_options({.position = "rotary", .rotary_share = 0.5, .rotary_scaling = "linear", .rotary_factor = 2})},
      {"rotary, larger base", small_options({.position = "rotary", .rotary_scaling = "ntk", .rotary_factor = 4})},
      {"YaRN", small_options({.position = "rotary", .rotary_scaling = "yarn", .rotary_factor = 4})},
      {"ALiBi", small_options({.num_kv_heads = 1, .position = "alibi"})},
      {"relative", small_options({.position = "relative", .relative_buckets = 6, .relative_distance = 5})},
      {"muP", small_options({.position = "rotary", .feed_forward = "swiglu", .mup_base_dim = 4})},
      {"BERT",
       small_options({.vocab_size = 11, .head = "masked_token", .norm_placement = "after", .embedding_norm = true})},
      {"both ways, ALiBi", small_options({.vocab_size = 11, .head = "masked_token", .position = "alibi"})},
      {"both ways, relative", small_options({.vocab_size = 11,
                                             .head = "masked_token",
                                             .position = "relative",
                                             .relative_buckets = 6,
                                             .relative_distance = 5})},
      {"classifier by the mean", small_options({.head = "classify", .position = "rotary"})},
      {"classifier by the first", small_options({.head = "classify", .pooling = "first", .embedding_dim = 5})},
      {"causal classifier", small_options({.head = "classify", .pooling = "last", .causal = true})},
      {"experts", small_options({.feed_forward = "swiglu", .experts = 4, .bias = false})},
      {"one of two experts", small_options({.vocab_size = 11,
                                            .head = "masked_token",
                                            .norm_placement = "parallel",
                                            .experts = 2,
                                            .experts_per_token = 1,
                                            .balance_loss = 0.1,
                                            .router_z_loss = 0.001,
                                            .initialisation = "xavier"})},
      {"encoder-decoder", small_options({.head = "encoder_decoder", .input_length = 3, .encoder_depth = 1})},
      {"encoder-decoder, Llama's parts", small_options({.num_kv_heads = 1,
                                                        .head = "encoder_decoder",
                                                        .input_length = 4,
                                                        .position = "rotary",
                                                        .norm = "rms_norm",
                                                        .norm_placement = "both",
                                                        .qk_norm = "rms_norm",
                                                        .residual = "layer_scale",
                                                        .bias = false,
                                                        .tie_embeddings = false,
                                                        .embedding_dim = 5})},
      {"encoder-decoder, T5's parts", small_options({.head = "encoder_decoder",
                                                     .input_length = 3,
                                                     .position = "relative",
                                                     .norm_placement = "after",
                                                     .residual = "rezero",
                                                     .relative_buckets = 6,
                                                     .relative_distance = 5})},
      {"reconstruction", small_options({.head = "reconstruct"})},
      {"reconstruction, muP",
       small_options(
           {.head = "reconstruct", .norm = "rms_norm", .bias = false, .tie_embeddings = false, .mup_base_dim = 4})},
      {"stochastic depth", small_options({.norm_placement = "parallel", .stochastic_depth = 0.3, .dropout = 0.1})},
  };
}

inline Tensor some_tokens(int64_t batch, int64_t count, int64_t vocab_size = 11) {
  torch::manual_seed(5);
  return torch::randint(vocab_size, {batch, count}, torch::kInt64);
}

}  // namespace attnscale
