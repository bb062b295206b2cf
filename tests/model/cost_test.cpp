#include "model/cost.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <c10/util/ThreadLocalDebugInfo.h>

#include "core/error.h"
#include "model/small_model.h"
#include "model/transformer.h"
#include "tensor/flop_counter.h"
#include "tensor/kernels/kernels.h"

using namespace attnscale;

namespace {

/// Registered variants, in every model that they can stand in of some with every option of the model that changes a
/// count.
std::vector<std::pair<ModelOptions, AttentionChoice>> combinations() {
  std::vector<std::pair<ModelOptions, AttentionChoice>> list;
  std::vector<ModelOptions> options = {
      small_options(),
      small_options(
          {.position = "rotary", .norm = "rms_norm", .feed_forward = "swiglu", .bias = false, .tie_embeddings = false}),
      small_options({.num_kv_heads = 1, .position = "sinusoidal", .bias = false}),
      small_options({.position = "none", .norm = "rms_norm", .dropout = 0.1}),
      small_options({.vocab_size = 11, .head = "masked_token", .position = "none"}),
      small_options({.head = "encoder_decoder", .input_length = 3, .position = "none"}),
  };
  for (const auto& variant : all_variants())
    for (const auto& model : options) {
      const AttentionChoice attention{variant.name, variant.resolve(Json::object())};
      constexpr int64_t shortest = 8;  // of the contexts below
      if (model_problems(model, attention, shortest).empty()) list.emplace_back(model, attention);
    }
  for (const auto& architecture : architectures()) list.emplace_back(architecture.options, AttentionChoice{});
  return list;
}

/// Largest sum of bytes that the CPU allocator had handed out at once, beyond those before.
class HighWater : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    current_ += size;
    peak_ = std::max(peak_, current_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  int64_t current_ = 0, peak_ = 0;
};

}  // namespace

TEST_CASE("cost: the parameter ledger equals the numbers of a built model") {
  const WithGatedSum scratch;
  for (const auto& [options, attention] : combinations()) {
    CAPTURE(attention.variant, write_options(options).dump());
    const Transformer model(options, attention, 8, 0);
    int64_t total = 0, embedding = 0, head = 0;
    for (const auto& item : model.named_parameters()) {
      total += item.value().numel();
      if (item.key().starts_with("embedding.") || item.key().find("position_bias.") != std::string::npos)
        embedding += item.value().numel();
      if (item.key().starts_with("head")) head += item.value().numel();
    }
    const auto ledger = model_cost(options, attention, 8, 2).parameters;
    CHECK(ledger.total == total);
    int64_t expert = 0;  // one of each block
    for (const auto& item : model.named_parameters())
      if (item.key().find(".experts.0.") != std::string::npos) expert += item.value().numel();
    CHECK(ledger.active == total - (options.experts - options.experts_per_token) * expert);
    CHECK(ledger.non_embedding == total - embedding - head);
    const int64_t E = *options.embedding_dim;
    CHECK(ledger.without_input_embedding == total - embedding - head + 11 * E + (E == 12 ? 0 : E * 12));
    CHECK(ledger.standard_block == 12 * 2 * 12 * 12);
  }
}

TEST_CASE("cost: forward FLOPs equal what the dispatcher saw") {
  const WithGatedSum scratch;
  const torch::NoGradGuard guard;
  for (const auto& [options, attention] : combinations())
    for (const auto& [batch, context] : {std::pair<int64_t, int64_t>{2, 16}, {1, 9}}) {
      CAPTURE(attention.variant, write_options(options).dump(), batch, context);
      Transformer model(options, attention, context, 0);
      const auto tokens = some_tokens(batch, context);
      const FlopCounter counter;
      model.forward(tokens);
      CHECK(counter.total() == forward_flops(options, attention, context, batch));
    }
}

TEST_CASE("cost: FLOPs of a window shorter than the context equal what the dispatcher saw, in every causal model") {
  const WithGatedSum scratch;
  const torch::NoGradGuard guard;
  for (const auto& [options, attention] : combinations()) {
    if (options.head != "next_token" || !*options.causal) continue;
    Transformer model(options, attention, 16, 0);
    for (const int64_t window : {1, 7, 12, 15}) {
      CAPTURE(attention.variant, write_options(options).dump(), window);
      const auto tokens = some_tokens(2, window);
      const FlopCounter counter;
      model.forward(tokens);
      CHECK(counter.total() == forward_flops(options, attention, 16, 2, window));
    }
  }
  // By hand: as in the case below, with 5 of 8 keys.
  const auto options = resolved({.depth = 1, .model_dim = 4, .num_heads = 1, .position = "none", .bias = false}, 10);
  const auto flops = flops_in_window(options, {}, 8, 5);
  CHECK(flops.executed == 3 * (2 * (192 + 40) + 16 * 5));
  CHECK(flops.six_n == model_cost(options, {}, 8, 3).flops_per_token.six_n);
}

TEST_CASE("cost: GPT-2 small has the published 124 million parameters") {
  const auto options = resolved({.depth = 12, .model_dim = 768, .num_heads = 12, .feed_forward = "gelu_tanh"}, 50257);
  const auto ledger = model_cost(options, {}, 1024, 1).parameters;
  CHECK(ledger.total == 124439808);  // the sum over the public checkpoint
  CHECK(ledger.non_embedding == 124439808 - 50257 * 768 - 1024 * 768);
  CHECK(ledger.standard_block == 84934656);
}

TEST_CASE("cost: the FLOP ledger by hand for one block") {
  // M = 4, one head, F = 16, V = 10, T = 8, no biases: qkv 3 x 16, output 16, feed-forward 2 x 64, norms 3 x 4.
  const auto options = resolved({.depth = 1, .model_dim = 4, .num_heads = 1, .position = "none", .bias = false}, 10);
  const auto flops = model_cost(options, {}, 8, 3).flops_per_token;
  const double matrices = 48 + 16 + 128;
  CHECK(flops.six_n == 6 * (matrices + 12));
  CHECK(flops.six_n_with_head == 6 * (matrices + 12 + 40));
  // Scores and weighted values: 2 x 2 x 4 FLOPs a pair; all 8 keys executed, 4.5 visible on average.
  CHECK(flops.executed == 3 * (2 * (matrices + 40) + 16 * 8));
  CHECK(flops.algorithmic == 3 * (2 * (matrices + 40) + 16 * 4.5));
}

TEST_CASE("cost: the claimed decode state is what a full context leaves") {
  const WithGatedSum scratch;
  const torch::NoGradGuard guard;
  for (const auto& [options, attention] : combinations()) {
    if (!variant_named(attention.variant).traits.contains(Trait::incremental) || options.head != "next_token") continue;
    CAPTURE(attention.variant);
    Transformer model(options, attention, 16, 0);
    auto state = model.new_state(1);
    model.decode(some_tokens(1, 16), state);
    CHECK(model_cost(options, attention, 16, 4).state_bytes == state.bytes());
  }
}

TEST_CASE("cost: a model with a layer that keeps no state claims none for the whole") {
  const AttentionChoice window{"sliding_window", Json{{"window", 4}}};
  const AttentionChoice no_state{"latent_bottleneck", variant_named("latent_bottleneck").resolve(Json::object())};
  REQUIRE_FALSE(variant_named(no_state.variant).traits.contains(Trait::incremental));
  const auto state = [&](const std::vector<AttentionChoice>& layers) {
    auto attention = layers.front();
    attention.layers = layers;
    return model_cost(small_options(), attention, 16, 1).state_bytes;
  };
  CHECK(state({window, window}) == 2 * 2 * 4 * 12 * 4);  // layers x (key, value) x window x width x float32
  CHECK_FALSE(state({window, no_state}));
  CHECK_FALSE(state({no_state, window}));
}

TEST_CASE("cost: only products that have kernels keep less for the backward pass") {
  const KernelsAsBefore as_before;
  auto options = resolved({.depth = 3, .norm = "rms_norm", .feed_forward = "swiglu"}, 65);
  const auto bytes = [&](at::ScalarType products) {
    return model_cost(options, {}, 64, 8, false, products).training_bytes;
  };
  if (has_kernels(at::kFloat)) {  // of dropout not even the masks
    const auto plain = bytes(at::kFloat);
    options = resolved({.depth = 3, .norm = "rms_norm", .feed_forward = "swiglu", .dropout = 0.1}, 65);
    CHECK(bytes(at::kFloat) == plain);
  }
  const auto with = bytes(at::kFloat), of_double = bytes(at::kDouble), of_half = bytes(at::kHalf);
  set_kernels(false);
  const auto without = bytes(at::kFloat);
  CHECK(of_double == without);
  CHECK(of_half == without);
  CHECK(with <= without);
}

TEST_CASE("cost: estimated training memory is within a quarter of the allocator's high water") {
  for (const auto& options :
       {resolved({.depth = 4, .model_dim = 64, .num_heads = 4}, 65), resolved({.depth = 1, .model_dim = 32}, 2000),
        resolved({.depth = 3, .model_dim = 64, .position = "rotary", .norm = "rms_norm", .feed_forward = "swiglu"}, 65),
        resolved({.depth = 2, .model_dim = 128, .dropout = 0.1}, 65),
        resolved({.depth = 4, .norm = "rms_norm", .norm_placement = "both", .feed_forward = "relu_squared"}, 65),
        resolved({.depth = 4, .norm = "dynamic_tanh", .qk_norm = "rms_norm", .residual = "layer_scale"}, 65),
        resolved({.depth = 2, .head = "reconstruct"}, 65), resolved({.depth = 2, .head = "masked_token"}, 65),
        resolved({.depth = 1, .head = "classify"}, 2000),
        resolved({.depth = 2, .head = "encoder_decoder", .input_length = 40}, 65),
        resolved({.depth = 3, .feed_forward = "swiglu", .experts = 8}, 65),
        resolved({.depth = 4, .position = "alibi"}, 65), resolved({.depth = 4, .position = "relative"}, 65),
        resolved({.depth = 4, .norm_placement = "parallel", .feed_forward = "relu", .embedding_dim = 16}, 65)}) {
    const int64_t context = 64, batch = 8;
    CAPTURE(write_options(options).dump());
    const auto tokens = some_tokens(batch, context, 65);
    auto meter = std::make_shared<HighWater>();
    int64_t moments = 0;
    {
      const c10::DebugInfoGuard measuring(c10::DebugInfoKind::PROFILER_STATE, meter);
      Transformer model(options, {}, context, 0);
      const auto logits = model.forward(tokens).flatten(0, 1);
      const auto targets = tokens.narrow(1, 0, num_outputs(options, context)).flatten();
      const auto loss = -at::log_softmax(logits, -1).gather(1, targets.unsqueeze(1)).mean();
      loss.backward();
      for (const auto& parameter : model.parameters()) moments += 2 * parameter.numel() * 4;
    }
    const double measured = static_cast<double>(meter->peak() + moments);
    const double estimated = static_cast<double>(model_cost(options, {}, context, batch).training_bytes);
    CAPTURE(measured, estimated);
    CHECK(estimated < 1.25 * measured);
    CHECK(estimated > 0.75 * measured);
  }
}
