#include "model/recomputation.h"

#include <catch2/catch_test_macros.hpp>

#include <ATen/Functions.h>

#include "attention/registry.h"
#include "model/attention_choice.h"
#include "model/cost.h"
#include "model/small_model.h"
#include "model/transformer.h"
#include "tensor/flop_counter.h"
#include "tensor/leaf_gradients.h"
#include "tensor/memory_counter.h"
#include "tensor/precision.h"

using namespace attnscale;

namespace {

constexpr int64_t context = 16;

/// Cross entropy of the next token, and what the variants add.
Tensor loss_of(Transformer& model, const Tensor& tokens, const std::string& dtype) {
  const int64_t length = tokens.size(1) - 1;
  Tensor logits;
  {
    const ForwardPrecision precision(dtype);
    logits = model.forward(tokens.narrow(1, 0, length)).flatten(0, 1).to(weight_dtype(dtype));
  }
  // A head that classifies gives fewer logits than there are tokens.
  const auto targets = tokens.narrow(1, 1, length).flatten().narrow(0, 0, logits.size(0));
  const auto loss = at::cross_entropy_loss(logits, targets);
  const auto auxiliary = model.take_auxiliary_loss();
  return auxiliary.defined() ? loss + auxiliary : loss;
}

struct Outcome {
  std::vector<Tensor> losses, gradients;
  Tensor drawn;  // by the default generator afterwards
};

/// Two passes whose gradients add up, as in a step with `accumulate`. @param by_nodes  see LeafGradients
Outcome outcome(const ModelOptions& options, const AttentionChoice& attention, const std::string& dtype,
                bool checkpointing, int passes = 2, bool by_nodes = false) {
  Transformer model(options, attention, context, 1);
  {
    const torch::NoGradGuard guard;
    torch::manual_seed(2);
    for (auto& parameter : model.parameters()) parameter.add_(at::randn_like(parameter), 0.2);  // every part shows
  }
  model.to(weight_dtype(dtype));
  model.checkpoint_activations(checkpointing);
  model.train();
  const auto tokens = some_tokens(3, context + 1);
  torch::manual_seed(3);
  model.seed_stochastic_depth(4);
  Outcome result;
  std::optional<LeafGradients> guard;
  if (by_nodes) guard.emplace();
  for (int pass = 0; pass < passes; ++pass) {
    const auto loss = loss_of(model, tokens, dtype);
    loss.backward();
    result.losses.push_back(loss.detach());
  }
  for (const auto& parameter : model.parameters()) result.gradients.push_back(parameter.grad());
  result.drawn = at::rand({8});
  return result;
}

bool same(const Tensor& a, const Tensor& b) { return a.defined() == b.defined() && (!a.defined() || at::equal(a, b)); }

void check_equal(const Outcome& kept, const Outcome& again) {
  for (size_t i = 0; i < kept.losses.size(); ++i) CHECK(at::equal(kept.losses[i], again.losses[i]));
  bool equal = true;
  double size = 0;
  for (size_t i = 0; i < kept.gradients.size(); ++i) {
    equal = equal && same(kept.gradients[i], again.gradients[i]);
    if (kept.gradients[i].defined()) size += kept.gradients[i].abs().sum().item<double>();
  }
  CHECK(equal);
  CHECK(size > 0);
  CHECK(at::equal(kept.drawn, again.drawn));
}

void check_equal(const ModelOptions& options, const AttentionChoice& attention, const std::string& dtype) {
  CAPTURE(attention.variant, write_options(options).dump(), dtype);
  check_equal(outcome(options, attention, dtype, false), outcome(options, attention, dtype, true));
}

struct Memory {
  int64_t kept = 0, peak = 0;  // bytes: after the forward pass; of the whole step
};

/// Of one step, without the weights; gradients of weights are in the peak.
Memory memory_of(const ModelOptions& options, int64_t batch, int64_t length, bool checkpointing) {
  Transformer model(options, {}, length, 1);
  model.checkpoint_activations(checkpointing);
  model.train();
  const auto tokens = some_tokens(batch, length + 1, *options.vocab_size);
  const MemoryCounter counter;
  const auto loss = loss_of(model, tokens, "float32");
  const int64_t kept = counter.current();
  loss.backward();
  return {kept, counter.peak()};
}

}  // namespace

TEST_CASE("recomputation: gradients, losses and later draws are the bits of a pass that keeps its activations") {
  auto options = small_options({.stochastic_depth = 0.4, .dropout = 0.2});
  for (const auto* dtype : {"float32", "bfloat16", "float64"}) {
    check_equal(options, {}, dtype);
    for (const auto* variant : {"routing", "compressive", "delta", "performer", "lsh"}) {
      const AttentionChoice attention{variant, variant_named(variant).resolve(Json::object())};
      if (model_problems(options, attention, context).empty()) check_equal(options, attention, dtype);
    }
  }
  for (const auto& architecture : architectures()) {
    auto with_dropout = architecture.options;
    with_dropout.dropout = 0.1;
    check_equal(with_dropout, {}, "float32");
  }
}

TEST_CASE("recomputation: with it and without, nodes that add parameters' gradients themselves give autograd's bits") {
  for (const auto& architecture : architectures())
    for (const auto* dtype : {"float32", "bfloat16"})
      for (const bool checkpointing : {false, true}) {
        CAPTURE(architecture.name, dtype, checkpointing);
        check_equal(outcome(architecture.options, {}, dtype, checkpointing, 1, false),
                    outcome(architecture.options, {}, dtype, checkpointing, 1, true));
      }
}

TEST_CASE("recomputation: parameters that are not trained get no gradient from nodes either") {
  Transformer model(small_options(), {}, context, 1);
  model.train();
  for (const auto& item : model.named_parameters())
    if (item.key().find("norm") != std::string::npos || item.key() == "embedding.position")
      item.value().set_requires_grad(false);
  const LeafGradients by_nodes;
  loss_of(model, some_tokens(3, context + 1), "float32").backward();
  for (const auto& item : model.named_parameters()) {
    CAPTURE(item.key());
    CHECK(item.value().grad().defined() == item.value().requires_grad());
  }
}

TEST_CASE("recomputation: at depth 16 activations need at most half the memory, and as much as the plan says") {
  const auto options = resolved({.depth = 16, .model_dim = 32, .num_heads = 2}, 65);
  constexpr int64_t batch = 8, length = 64;
  const auto kept = memory_of(options, batch, length, false), again = memory_of(options, batch, length, true);
  WARN("kept after the forward pass: " << kept.kept << " and " << again.kept << " bytes; peak: " << kept.peak << " and "
                                       << again.peak);
  CHECK(2 * again.kept <= kept.kept);
  CHECK(2 * again.peak <= kept.peak);
  for (const bool checkpointing : {false, true}) {
    const auto cost = model_cost(options, {}, length, batch, checkpointing);
    // The estimate has weights and moments too, 12 bytes a parameter.
    const auto estimated = static_cast<double>(cost.training_bytes - 12 * cost.parameters.total);
    const auto measured = static_cast<double>((checkpointing ? again : kept).peak);
    CAPTURE(checkpointing, estimated, measured);
    CHECK(estimated < 1.3 * measured);
    CHECK(estimated > 0.75 * measured);
  }
}

TEST_CASE("recomputation: the FLOPs executed rise by the blocks' forward pass, in the ledger and at the dispatcher") {
  const auto options = small_options({.position = "none"});
  const auto executed = [&](bool checkpointing) {
    Transformer model(options, {}, context, 1);
    model.checkpoint_activations(checkpointing);
    model.train();
    const auto tokens = some_tokens(3, context + 1);
    const FlopCounter counter;
    loss_of(model, tokens, "float32").backward();
    return counter.total();
  };
  constexpr double tokens = 3 * context;
  const double head = 2 * 12 * 11 * tokens;
  const double blocks = forward_flops(options, {}, context, 3) - head;
  CHECK(executed(true) - executed(false) == blocks);
  const auto plain = model_cost(options, {}, context, 3).flops_per_token;
  const auto again = model_cost(options, {}, context, 3, true).flops_per_token;
  CHECK(std::abs(again.executed - plain.executed - blocks / tokens) < 1e-6 * plain.executed);
  CHECK(again.algorithmic == plain.algorithmic);
}
