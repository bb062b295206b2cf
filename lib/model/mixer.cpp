#include "model/mixer.h"

#include <cmath>

#include "attention/registry.h"
#include "model/attention_choice.h"
#include "model/initialisation.h"
#include "model/scaled.h"
#include "tensor/head_layout.h"
#include "tensor/precision.h"

namespace attnscale {
namespace {

/// [B, T, H width] -> [B, H, T, width], a view
Tensor by_head(const Tensor& x, int64_t num_heads) {
  return x.view({x.size(0), x.size(1), num_heads, -1}).transpose(1, 2);
}

/// What logits that the variant divides by sqrt(D) are multiplied with beforehand.
double logit_factor(const ModelOptions& options, int64_t head_dim) {
  const double root = std::sqrt(static_cast<double>(head_dim));
  if (options.logit_scale == "inverse") return 1 / root;
  return options.logit_scale == "none" ? root : 1;
}

}  // namespace

Mixer::Mixer(const ModelOptions& options, const AttentionChoice& choice, const Geometry& geometry,
             std::shared_ptr<Rotary> rotary, uint64_t seed)
    : geometry_(geometry),
      rotary_parts_(variant_named(choice.variant).rotary_parts),
      input_scale_(1 / width_multiple(options)),
      query_scale_(logit_factor(options, geometry.head_dim) / std::sqrt(head_width_multiple(options))),
      rotary_(std::move(rotary)) {
  const auto& variant = variant_named(choice.variant);
  const int64_t H = geometry.num_heads, G = geometry.num_kv_heads, D = geometry.head_dim;
  if (!variant.traits.contains(Trait::owns_projections)) {
    qkv_ = register_module("qkv", std::make_shared<Linear>(options.model_dim, (H + 2 * G) * D, options.bias));
    output_ = register_module("output", std::make_shared<Linear>(H * D, options.model_dim, options.bias));
    if (options.qk_norm != "none") {
      // Without a bias: softmax would not see what all keys share.
      query_norm_ = register_module("query_norm", std::make_shared<Norm>(options, options.qk_norm, D, false));
      key_norm_ = register_module("key_norm", std::make_shared<Norm>(options, options.qk_norm, D, false));
    }
    if (const auto wanted = variant.gates(choice.options, geometry); !wanted.empty()) {
      auto folder = register_module("gates", std::make_shared<torch::nn::Module>("gates"));
      for (const auto& gate : wanted)
        gates_.emplace_back(gate.name,
                            folder->register_module(
                                gate.name, std::make_shared<Linear>(options.model_dim, H * gate.width, options.bias)));
    }
  }
  const DefaultSeed guard(seed);
  attention_ = register_module("attention", variant.make(choice.options, geometry));
}

/// heads [B, T, N, D], each part of a head turned as if it were one
Tensor Mixer::turned(const Tensor& heads, int64_t offset) const {
  const auto apart =
      heads.reshape({heads.size(0), heads.size(1), heads.size(2) * rotary_parts_, geometry_.head_dim / rotary_parts_});
  return rotary_->turn(apart, offset).view(heads.sizes());
}

Inputs Mixer::project(const Tensor& stream, int64_t offset, const Tensor& bias, const Tensor& memory) const {
  return in_float32(float32_.projections, stream, [&](const Tensor& x) { return projected(x, offset, bias, memory); });
}

Inputs Mixer::projected(const Tensor& stream, int64_t offset, const Tensor& bias, const Tensor& memory) const {
  const auto x = scaled(stream, input_scale_);
  const int64_t H = geometry_.num_heads, G = geometry_.num_kv_heads, D = geometry_.head_dim;
  const auto normed = [&](const Norm& norm, const Tensor& heads) {  // in the stream's dtype
    const auto unit = norm.forward(heads.to(x.scalar_type())).to(heads.scalar_type());
    return rotary_ ? turned(unit, offset) : unit;
  };
  const auto by_width = [D](const Tensor& rows) { return rows.view({rows.size(0), rows.size(1), -1, D}); };
  // Splits, not slices: their gradients are joined by one concatenation.
  Inputs inputs;
  if (memory.defined()) {
    const auto parts = by_width(qkv_->rows(scaled(memory.to(x.scalar_type()), input_scale_), H * D, 2 * G * D))
                           .split_with_sizes({G, G}, 2);
    inputs = {.query = by_width(qkv_->rows(x, 0, H * D)), .key = parts[0], .value = parts[1]};
    if (query_norm_) {
      inputs.query = normed(*query_norm_, inputs.query);
      inputs.key = normed(*key_norm_, inputs.key);
    }
  } else if (query_norm_) {
    const auto parts = by_width(qkv_->forward(x)).split_with_sizes({H, G, G}, 2);
    inputs = {.query = normed(*query_norm_, parts[0]), .key = normed(*key_norm_, parts[1]), .value = parts[2]};
  } else if (rotary_) {
    const auto parts = by_width(qkv_->forward(x)).split_with_sizes({H + G, G}, 2);
    const auto both = turned(parts[0], offset).split_with_sizes({H, G}, 2);
    inputs = {.query = both[0], .key = both[1], .value = parts[1]};
  }
  if (inputs.query.defined()) {
    inputs.query = inputs.query.transpose(1, 2);  // [B, H, T, D]
    inputs.key = inputs.key.transpose(1, 2);      // [B, G, T, D]
    inputs.value = inputs.value.transpose(1, 2);  // [B, G, T, D]
  } else {
    const auto parts = split_heads(qkv_->forward(x), {H, G, G});
    inputs = {.query = parts[0], .key = parts[1], .value = parts[2]};
  }
  inputs.query = scaled(inputs.query, query_scale_);
  inputs.bias = bias;
  for (const auto& [name, gate] : gates_) inputs.gates[name] = by_head(gate->forward(x), H);
  return inputs;
}

/// The variant's output: of inputs in float32 where it is to stay float32, otherwise of such as 16-bit projections
/// give.
Tensor Mixer::attended(Inputs inputs, State* state) {
  const auto work = [&](const Inputs& in) { return state ? attention_->decode(in, *state) : attention_->forward(in); };
  const auto& like = qkv_ ? inputs.value : inputs.hidden;
  if (like.scalar_type() == at::kDouble) return work(inputs);
  if (float32_.attention) {
    const FullPrecision products_stay_float32;
    return work(in_float32(std::move(inputs)));
  }
  if (const auto products = mixed_dtype(like.device().type()); products && qkv_ && float32_.projections) {
    for (auto* x : {&inputs.query, &inputs.key, &inputs.value}) *x = x->to(*products);
    for (auto& [name, gate] : inputs.gates) gate = gate.to(*products);
  }
  return work(inputs);
}

Tensor Mixer::forward(const Tensor& x, int64_t offset, State* state, const Tensor& bias, const Tensor& memory) {
  if (!qkv_) return attended({.hidden = x.unsqueeze(1)}, state).squeeze(1);
  const auto mixed = join_heads(attended(project(x, offset, bias, memory), state));  // [B, T, H D]
  return in_float32(float32_.projections, mixed,
                    [&](const Tensor& heads) { return output_->forward(scaled(heads, input_scale_)); });
}

}  // namespace attnscale
