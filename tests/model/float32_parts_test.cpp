// Which products stay float32 under mixed precision: all of them are the float32 model, bit for bit; each by itself is
// a model written out by hand with autocast turned off around that part.

#include "model/float32_parts.h"

#include <set>

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <catch2/catch_test_macros.hpp>

#include "model/largest.h"
#include "model/small_model.h"
#include "model/transformer.h"
#include "tensor/kernels/kernels.h"
#include "tensor/precision.h"

using namespace attnscale;

namespace {

struct Kernels {
  explicit Kernels(bool on) : before(kernels_on()) { set_kernels(on); }
  ~Kernels() { set_kernels(before); }
  bool before;
};

/// Weights large enough that every part shows in the logits; float32.
std::shared_ptr<Transformer> float32_model(const ModelOptions& options, const AttentionChoice& attention = {}) {
  auto model = std::make_shared<Transformer>(options, attention, /*context=*/16, /*init_seed=*/1);
  const torch::NoGradGuard guard;
  torch::manual_seed(2);
  for (auto& parameter : model->parameters()) parameter.normal_(0, 0.4);
  model->eval();
  return model;
}

/// Logits, and the gradients of a sum that is no constant, by name.
TensorMap numbers_of(Transformer& model, const Tensor& tokens, std::optional<at::ScalarType> products) {
  model.zero_grad();
  Tensor logits;
  {
    const ForwardPrecision precision(products, at::kCPU);
    logits = model.forward(tokens);
  }
  TensorMap numbers = {{"logits", logits.detach()}};
  logits.to(at::kFloat).square().sum().backward();
  for (const auto& item : model.named_parameters())
    if (item.value().grad().defined()) numbers[item.key()] = item.value().grad().clone();
  return numbers;
}

Tensor logits_with(Transformer& model, const Tensor& tokens, const Float32Parts& parts) {
  const torch::NoGradGuard no_gradients;
  model.keep_float32(parts);
  const ForwardPrecision precision(at::kBFloat16, at::kCPU);
  return model.forward(tokens).to(at::kFloat);
}

/// GPT-2's forward pass under autocast for bfloat16, which is turned off around the parts.
Tensor by_hand(const Transformer& model, const Tensor& tokens, const Float32Parts& parts) {
  const torch::NoGradGuard no_gradients;
  const ForwardPrecision precision(at::kBFloat16, at::kCPU);
  const auto p = model.named_parameters();
  const auto part = [](bool float32, const std::vector<Tensor>& from, const auto& work) {
    at::autocast::set_autocast_enabled(at::kCPU, !float32);
    std::vector<Tensor> given;
    for (const auto& x : from) given.push_back(float32 ? x.to(at::kFloat) : x);
    auto result = work(given);
    at::autocast::set_autocast_enabled(at::kCPU, true);
    return result;
  };
  const auto& o = model.options();
  const int64_t T = tokens.size(1), M = o.model_dim, H = o.num_heads;
  auto x = at::embedding(p["embedding.token"], tokens) + p["embedding.position"].narrow(0, 0, T);
  for (int64_t layer = 0; layer < o.depth; ++layer) {
    const auto at = [&, before = "blocks." + std::to_string(layer) + "."](const std::string& name) {
      return p[before + name];
    };
    const auto norm = [&](const std::string& name) {
      return at::layer_norm(x, {M}, at(name + ".weight"), at(name + ".bias"), o.norm_epsilon);
    };
    const auto qkv = part(parts.projections, {norm("norm1")}, [&](const auto& in) {
      return at::linear(in[0], at("mixer.qkv.weight"), at("mixer.qkv.bias"));
    });
    const auto heads = [&](int64_t which) {  // [B, H, T, D], of what bfloat16 holds unless they stay float32
      const auto own = qkv.narrow(2, which * M, M).unflatten(2, {H, M / H}).transpose(1, 2);
      return parts.projections && !parts.attention ? own.to(at::kBFloat16) : own;
    };
    const auto mixed = part(parts.attention, {heads(0), heads(1), heads(2)}, [&](const auto& in) {
      return at::scaled_dot_product_attention(in[0], in[1], in[2], std::nullopt, 0.0, /*is_causal=*/true);
    });
    x = x + part(parts.projections, {mixed.transpose(1, 2).flatten(2)},
                 [&](const auto& in) { return at::linear(in[0], at("mixer.output.weight"), at("mixer.output.bias")); });
    x = x + part(parts.feed_forward, {norm("norm2")}, [&](const auto& in) {
          const auto up = at::linear(in[0], at("feed_forward.up.weight"), at("feed_forward.up.bias"));
          return at::linear(at::gelu(up), at("feed_forward.down.weight"), at("feed_forward.down.bias"));
        });
  }
  x = at::layer_norm(x, {M}, p["final_norm.weight"], p["final_norm.bias"], o.norm_epsilon);
  return part(parts.head, {x}, [&](const auto& in) { return at::linear(in[0], p["embedding.token"]); }).to(at::kFloat);
}

}  // namespace

TEST_CASE("float32 parts: all of them under mixed precision are the float32 model, bit for bit") {
  const Float32Parts all{.projections = true, .attention = true, .feed_forward = true, .head = true};
  for (const bool kernels : {true, false})
    for (const auto products : {at::kBFloat16, at::kHalf})
      for (const auto& [name, options] : architectures()) {
        INFO(name << ", " << toString(products) << (kernels ? ", kernels" : ""));
        const Kernels these(kernels);
        const auto model = float32_model(options);
        const auto tokens = some_tokens(2, 7);
        const auto exact = numbers_of(*model, tokens, {});
        CHECK_FALSE(at::equal(numbers_of(*model, tokens, products).at("logits").to(at::kFloat), exact.at("logits")));
        model->keep_float32(all);
        const auto numbers = numbers_of(*model, tokens, products);
        REQUIRE(numbers.size() == exact.size());
        for (const auto& [which, tensor] : exact) {
          INFO(which);
          CHECK(at::equal(numbers.at(which), tensor));
        }
      }
}

TEST_CASE("float32 parts: each choice is a model written by hand with autocast off around those parts") {
  const Kernels off(false);
  const auto model = float32_model(small_options());
  const auto tokens = some_tokens(2, 9);
  std::vector<Tensor> seen;
  for (int choice = 0; choice < 16; ++choice) {
    const Float32Parts parts{.projections = (choice & 1) != 0,
                             .attention = (choice & 2) != 0,
                             .feed_forward = (choice & 4) != 0,
                             .head = (choice & 8) != 0};
    INFO(choice);
    const auto logits = logits_with(*model, tokens, parts);
    // The same operators in the same dtypes; what is wrong about a part shows at bfloat16's 4e-3.
    CHECK(largest(logits - by_hand(*model, tokens, parts)) < 1e-5 * largest(logits));
    for (const auto& other : seen) CHECK_FALSE(at::equal(logits, other));
    seen.push_back(logits);
  }
}

TEST_CASE("float32 parts: with the kernels, too, each changes the logits, and recomputed blocks keep them") {
  const Kernels on(true);
  const auto model = float32_model(small_options());
  const auto tokens = some_tokens(2, 9);
  const auto none = logits_with(*model, tokens, {});
  for (const Float32Parts& parts :
       {Float32Parts{.projections = true}, {.attention = true}, {.feed_forward = true}, {.head = true}}) {
    CHECK_FALSE(at::equal(logits_with(*model, tokens, parts), none));
    model->train();
    const auto kept = numbers_of(*model, tokens, at::kBFloat16);
    model->checkpoint_activations(true);
    for (const auto& [name, tensor] : numbers_of(*model, tokens, at::kBFloat16)) {
      INFO(name);
      CHECK(at::equal(tensor, kept.at(name)));
    }
    model->checkpoint_activations(false);
    model->eval();
  }
}

TEST_CASE("float32 parts: whether attention heeds them is what models with and without show") {
  const Kernels off(false);
  const auto tokens = some_tokens(2, 16);
  for (const auto& [name, heeds] : std::map<std::string, bool>{{"softmax", true},
                                                               {"sliding_window", true},
                                                               {"differential", true},
                                                               {"log_linear", false},
                                                               {"strided", false},
                                                               {"latent", true}}) {
    INFO(name);
    auto options = small_options({.position = "none"});
    const AttentionChoice choice{.variant = name, .options = variant_named(name).resolve(Json::object())};
    CHECK(attention_heeds_float32(options, choice, 16, at::kBFloat16) == heeds);
    const auto model = float32_model(options, choice);
    CHECK(at::equal(logits_with(*model, tokens, {.attention = true}), logits_with(*model, tokens, {})) != heeds);
    // With projections that stay float32 every variant is given other numbers.
    CHECK_FALSE(at::equal(logits_with(*model, tokens, {.projections = true, .attention = true}),
                          logits_with(*model, tokens, {.projections = true})));
  }
  const AttentionChoice strided{.variant = "strided", .options = variant_named("strided").resolve(Json::object())};
  const AttentionChoice hybrid{
      .variant = "strided", .options = strided.options, .layers = {strided, AttentionChoice{}}};
  CHECK(attention_heeds_float32(small_options(), hybrid, 16, at::kBFloat16));
}

TEST_CASE("float32 parts: the kernels of linear forms heed bfloat16 alone, and whether there are any does not matter") {
  const AttentionChoice linear{.variant = "linear", .options = variant_named("linear").resolve(Json::object())};
  for (const bool kernels : {true, false}) {
    const Kernels these(kernels);
    CHECK(attention_heeds_float32(small_options(), linear, 16, at::kBFloat16));
    CHECK_FALSE(attention_heeds_float32(small_options(), linear, 16, at::kHalf));
    CHECK_FALSE(attention_heeds_float32(small_options({.head = "masked_token"}), linear, 16, at::kBFloat16));
  }
}

TEST_CASE("float32 parts: what a variant declares of its sums is what it does, by operators and by kernels") {
  const torch::NoGradGuard no_gradients;
  constexpr int64_t positions = 100;
  for (const auto& variant : all_variants())
    for (const bool causal : {true, false}) {
      if (variant.traits.contains(Trait::owns_projections)) continue;
      if (!variant.traits.contains(causal ? Trait::causal : Trait::bidirectional)) continue;
      const Geometry g{.num_heads = 2, .num_kv_heads = 2, .context = positions, .causal = causal};
      auto samples = variant.samples;
      samples.push_back(Json::object());
      for (const auto& sample : samples) {
        if (!refusals(variant, sample, g).empty()) continue;
        INFO(variant.name << (causal ? ", causal " : ", both sides ") << sample.dump());
        torch::manual_seed(3);
        const auto options = variant.resolve(sample);
        const auto attends = variant.make(options, g);
        attends->eval();
        const auto random = [&](int64_t width) { return torch::randn({1, 2, positions, width}); };
        Inputs given{.query = random(g.head_dim), .key = random(g.head_dim), .value = random(g.value_dim)};
        for (const auto& gate : variant.gates(options, g)) given.gates[gate.name] = random(gate.width);
        const auto same = [&](at::ScalarType products, bool kernels) {
          const Kernels these(kernels);
          auto in = given;
          for (auto* x : {&in.query, &in.key, &in.value}) *x = x->to(products);
          for (auto& [name, gate] : in.gates) gate = gate.to(products);
          Tensor mixed;
          {
            const ForwardPrecision precision(products, at::kCPU);
            mixed = attends->forward(in);
          }
          return at::equal(mixed.to(products), attends->forward(in_float32(in)).to(products));
        };
        const auto declared = variant.float32_sums;
        const bool float32 = declared == Float32Sums::causal ? causal : declared != Float32Sums::never;
        // A sample may see so little (a window of one) that nothing is summed.
        const bool sums = sample.empty() || float32;
        if (sums) CHECK(same(at::kBFloat16, false) == float32);
        if (sums) CHECK(same(at::kHalf, false) == float32);
        if (sums && has_kernels(at::kBFloat16))
          CHECK(same(at::kBFloat16, true) == (float32 && !(declared == Float32Sums::but_for_kernels && causal)));
      }
    }
}
