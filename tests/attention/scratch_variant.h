#pragma once

// A variant for the tests of the conformance run: sound, or with one fault planted.

#include <cmath>

#include <ATen/autocast_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/matmul.h>

#include "attention/blocks.h"
#include "attention/masks.h"
#include "attention/registry.h"

// B batch, H heads, G key-value heads, T queries, S keys, D key width, E value width

namespace attnscale {

enum class Fault {
  none,
  sees_one_ahead,        // in the definition: implementation and oracle agree on it
  future_chooses,        // in the definition: the newest key's sign sets a factor, which has no gradient
  window_one_too_wide,   // in the definition
  only_itself,           // in the definition: positions never interact
  ignores_padding,       // in the definition
  blind_row_is_nan,      // rows without visible keys
  chunk_drops_a_key,     // decoding loses the newest key of the cache at each call
  batch_maximum,         // the softmax is stabilised by the maximum over the whole batch
  no_stabiliser,         // exp of the logits as they are
  half_detached,         // half of the score's gradient is lost
  wrong_output,          // one part in a million off the oracle
  flips,                 // every other call is off by a millionth in float32
  computes_in_bfloat16,  // float32 inputs are rounded to bfloat16
  coarse_bfloat16,       // ten per cent off in bfloat16 only
  coarse_when_mixed,     // ten per cent off under autocast only
  unused_parameter,      // registered, in no product
  throws_at_one,         // no forward pass of one position
  window_ignored,        // the option is read, and 5 taken
  square_when_long,      // beyond a hundred positions the scores are computed twice
  coarse_when_long,      // beyond a hundred positions float32 is rounded to bfloat16
  coarse_decode,         // decoding in float32 rounds its values to bfloat16
  coarse_row,            // the first position is off altogether in bfloat16
  gated,                 // none, in the form with a gate that forgets
  gate_overflows,        // with that gate: decays as a quotient of products from the beginning
  gate_clamped,          // with that gate: decoding takes no gate below -20
};

inline bool is_gated(Fault fault) {
  return fault == Fault::gated || fault == Fault::gate_overflows || fault == Fault::gate_clamped;
}

/// Causal attention over the latest `window` keys with a learnt scale per head, as one masked square. In the gated form
/// a logit falls by -log sigmoid(gate) at every step from its key to the query.
class Scratch : public Attention {
 public:
  struct Options {
    int64_t window = 5;
    static Fields fields() { return {field(&Options::window, "window", "keys seen, self included").at_least(1)}; }
  };

  Scratch(const Options& options, const Geometry& geometry, Fault fault = Fault::none)
      : Attention(geometry), options_(options), fault_(fault) {
    scale_ = register_parameter("scale", torch::ones({geometry.num_heads, 1, 1}));
    if (fault == Fault::unused_parameter) register_parameter("unused", torch::ones({3}));
  }

  Tensor forward(const Inputs& in) override {
    if (fault_ == Fault::throws_at_one && in.query.size(2) == 1) throw ShapeError("scratch: one position");
    return attend(in);
  }

  State new_state(int64_t batch, torch::TensorOptions options) const override {
    const auto& g = geometry_;
    return {.tensors = {{"key", at::empty({batch, g.num_kv_heads, 0, g.head_dim}, options)},
                        {"value", at::empty({batch, g.num_kv_heads, 0, g.value_dim}, options)},
                        {"forget", at::empty({batch, is_gated(fault_) ? g.num_heads : 0, 0, 1}, options)}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    for (const auto& [name, fresh] : {std::pair{"key", in.key}, {"value", in.value}}) {
      auto& cache = state.tensors.at(name);
      if (fault_ == Fault::chunk_drops_a_key && cache.size(2) > 0) cache.select(2, -1).zero_();
      cache = at::cat({cache, fresh}, 2);
    }
    state.length += in.query.size(2);
    Inputs all{.query = in.query, .key = state.tensors.at("key"), .value = state.tensors.at("value")};
    if (is_gated(fault_)) {
      const auto gate = in.gates.at("forget");
      auto& cache = state.tensors.at("forget");
      cache = at::cat({cache, fault_ == Fault::gate_clamped ? gate.clamp_min(-20) : gate}, 2);
      all.gates["forget"] = cache;
    }
    if (fault_ == Fault::coarse_decode && in.value.scalar_type() == torch::kFloat32)
      all.value = all.value.to(torch::kBFloat16).to(torch::kFloat32);
    return attend(all);
  }

  Tensor oracle(const Inputs& in) const override {
    auto scores = scaled_scores(in.query.to(torch::kFloat64), in.key.to(torch::kFloat64));
    if (is_gated(fault_)) scores = scores + fading(in);
    const auto visible = mask(in);
    const auto weights = scores.masked_fill(~visible, -INFINITY).softmax(-1).masked_fill(~visible, 0);
    return at::matmul(weights.masked_fill(~visible.any(-1, true), 0), repeat_heads(in.value, in.query.size(1)));
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    return key <= query && key > query - options_.window;
  }

  static Cost cost(const Options& options, const Geometry& g, const Sizes& sizes) {
    const double per_pair = 2.0 * static_cast<double>(sizes.batch * g.num_heads * (g.head_dim + g.value_dim));
    const int64_t outside = std::max<int64_t>(sizes.keys - options.window, 0);
    return {.algorithmic_flops = per_pair * (causal_pairs(sizes.keys, sizes.keys) - causal_pairs(outside, outside)),
            .executed_flops = per_pair * static_cast<double>(sizes.queries) * static_cast<double>(sizes.keys),
            .state_bytes = sizes.batch * g.num_kv_heads * sizes.keys * (g.head_dim + g.value_dim) * 4};
  }
  static int64_t parameter_count(const Options&, const Geometry& geometry) { return geometry.num_heads; }

 private:
  Tensor scaled_scores(const Tensor& query, const Tensor& key) const {
    auto scores = at::matmul(query, repeat_heads(key, query.size(1)).transpose(-1, -2));
    if (fault_ == Fault::future_chooses)
      scores = scores * (1 + 0.1 * key.select(2, -1).sum({1, 2}).sign().view({-1, 1, 1, 1}));
    return scores * scale_ / std::sqrt(static_cast<double>(query.size(3)));  // [B, H, T, S]
  }

  /// Running sums of log sigmoid(gate) over real positions: [B, H, S, 1], float64
  static Tensor running(const Inputs& in) {
    auto logs = at::log_sigmoid(in.gates.at("forget").to(torch::kFloat64));
    if (in.key_padding.defined()) logs = logs * per_key(in.key_padding);
    return logs.cumsum(2);
  }

  /// What a query's logits have lost since each key: [B, H, T, S], in float64
  static Tensor fading(const Inputs& in) {
    const auto sums = running(in);
    return sums.slice(2, in.key.size(2) - in.query.size(2)) - sums.mT();
  }

  Tensor mask(const Inputs& in) const {
    const int64_t queries = in.query.size(2), keys = in.key.size(2);
    const int64_t ahead = fault_ == Fault::sees_one_ahead;
    const int64_t window = fault_ == Fault::only_itself ? 1 : options_.window + (fault_ == Fault::window_one_too_wide);
    const auto offset = at::arange(keys) - at::arange(keys - queries, keys).unsqueeze(1);  // [T, S]
    const auto visible = (offset <= ahead).logical_and(offset > -window);
    return visible_keys(visible, fault_ == Fault::ignores_padding ? Tensor() : in.key_padding);
  }

  Tensor attend(const Inputs& in) const {
    static int calls = 0;
    const auto dtype = in.value.scalar_type();
    const bool is_long = in.query.size(2) > 100;
    const bool rounded = dtype == torch::kFloat32 &&
                         (fault_ == Fault::computes_in_bfloat16 || (fault_ == Fault::coarse_when_long && is_long));
    const auto rough = [&](const Tensor& x) { return rounded ? x.to(torch::kBFloat16).to(dtype) : x; };
    auto scores = scaled_scores(rough(in.query), rough(in.key));
    if (fault_ == Fault::square_when_long && is_long) scores = (scores + scaled_scores(in.query, in.key)) / 2;
    const bool overflows = fault_ == Fault::gate_overflows;
    if (is_gated(fault_) && !overflows) scores = scores + fading(in).to(scores.scalar_type());
    if (fault_ == Fault::half_detached) scores = (scores + scores.detach()) / 2;
    const auto visible = mask(in);
    const auto hidden = scores.masked_fill(~visible, -INFINITY);
    const auto most = fault_ == Fault::no_stabiliser   ? torch::zeros({1}, scores.options())
                      : fault_ == Fault::batch_maximum ? hidden.amax().detach()
                                                       : hidden.amax(-1, true).detach();
    const bool keeps_nan = fault_ == Fault::blind_row_is_nan;
    const auto finite = keeps_nan ? most : most.masked_fill(most.isinf(), 0);
    auto weights = (hidden - finite).exp();
    if (overflows) {
      const auto sums = running(in);
      const auto queries = sums.slice(2, in.key.size(2) - in.query.size(2));
      weights = weights * (queries.exp() * sums.mT().neg().exp()).to(weights.scalar_type());
    }
    const auto sums = weights.sum(-1, true);
    weights = weights / (keeps_nan ? sums : sums.masked_fill(~visible.any(-1, true), 1));
    auto output = at::matmul(weights, repeat_heads(rough(in.value), in.query.size(1)));
    if (fault_ == Fault::wrong_output) output = output + output.detach() * 1e-6;
    if (fault_ == Fault::flips && dtype == torch::kFloat32) output = output * (1 + (++calls % 2) * 1e-6);
    if (fault_ == Fault::coarse_when_mixed && at::autocast::is_autocast_enabled(at::kCPU)) output = output * 1.1;
    if (fault_ == Fault::coarse_row && dtype == torch::kBFloat16)
      output = at::cat({output.slice(2, 0, 1) * 3, output.slice(2, 1)}, 2);
    if (fault_ == Fault::coarse_bfloat16 && dtype == torch::kBFloat16) output = output * 1.1;
    return output;
  }

  Options options_;
  Fault fault_;
  Tensor scale_;
};

/// The sound scratch variant, as its registration would make it.
inline VariantInfo scratch() {
  static const VariantInfo info = [] {
    const Register<Scratch> registered{
        {.name = "scratch",
         .family = "sparse",
         .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::grouped_heads},
         .time_complexity = "T window",
         .state_complexity = "T (D + E)",
         .executed_complexity = "T^2",
         .samples = {Json{{"window", 64}}}}};
    auto copy = variant_named("scratch");
    unregister_variant("scratch");
    return copy;
  }();
  return info;
}

inline VariantInfo scratch(Fault fault) {
  auto info = scratch();
  if (is_gated(fault)) {
    info.gates = [](const Json&, const Geometry&) { return std::vector<Gate>{{"forget", 1}}; };
    info.cost = [honest = info.cost](const Json& options, const Geometry& geometry, const Sizes& sizes) {
      auto cost = honest(options, geometry, sizes);
      cost.state_bytes += sizes.batch * geometry.num_heads * sizes.keys * float_bytes;
      return cost;
    };
  }
  info.make = [fault](const Json& json, const Geometry& geometry) -> std::shared_ptr<Attention> {
    Scratch::Options options;
    if (fault != Fault::window_ignored) options.window = json.value("window", options.window);
    return std::make_shared<Scratch>(options, geometry, fault);
  };
  return info;
}

}  // namespace attnscale
