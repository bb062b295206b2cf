#include "train/trained_model.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "attention/registry.h"
#include "core/error.h"
#include "scratch_folder.h"
#include "train/trainer.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t text_context = 24;

RunConfig small_config(const std::string& variant) {
  std::vector<Problem> problems;
  auto config =
      RunConfig::from_json({{"model", {{"depth", 2}, {"model_dim", 16}, {"num_heads", 2}}},
                            {"attention", {{"variant", variant}}},
                            {"data", {{"source", "copy"}, {"alphabet", 6}, {"context", text_context}}},
                            {"train", {{"steps", 3}, {"warmup_steps", 1}, {"batch_size", 2}, {"eval_tokens", 64}}}},
                           problems);
  REQUIRE(problems.empty());
  return config;
}

}  // namespace

TEST_CASE("generate: the most probable tokens by the decode state are those of whole forward passes") {
  for (const std::string variant : {"softmax", "sliding_window", "linear", "memory_compressed", "latent", "mamba2",
                                    "gated_delta", "native_sparse", "segment_recurrent"}) {
    INFO(variant);
    const auto config = small_config(variant);
    Transformer model(config.model, config.attention, text_context, 5);
    model.eval();
    const std::vector<int64_t> prompt = {1, 4, 2};
    const auto made =
        generate(model, config.attention, text_context, prompt, {.count = text_context - 2, .temperature = 0});
    CHECK(made.with_state);
    CHECK(made.state_bytes > 0);
    const torch::NoGradGuard no_gradients;
    auto text = prompt;
    for (const int64_t token : made.tokens) {
      const auto logits = model.forward(torch::tensor(text).unsqueeze(0))[0][-1];
      // Float32 sums in two orders may swap tokens that are as likely: within 1e-5 of the best is the best.
      CHECK(logits.max().item<float>() - logits[token].item<float>() < 1e-5f);
      text.push_back(token);
    }
    CHECK(made.tokens.size() == text_context - 2);
  }
}

TEST_CASE("generate: a seed gives the same text, another one another, and top_k 1 is the most probable") {
  const auto config = small_config("softmax");
  Transformer model(config.model, config.attention, text_context, 5);
  model.eval();
  const auto with = [&](GenerateOptions options) {
    options.count = 20;
    return generate(model, config.attention, text_context, {1}, options).tokens;
  };
  CHECK(with({.seed = 1}) == with({.seed = 1}));
  CHECK(with({.seed = 1}) != with({.seed = 2}));
  CHECK(with({.temperature = 3, .top_k = 1}) == with({.temperature = 0}));
  CHECK_THROWS_WITH(generate(model, config.attention, text_context, {1, 2}, {.count = text_context}),
                    ContainsSubstring("ask for at most 23"));
  CHECK_THROWS_AS(generate(model, config.attention, text_context, {}, {.count = 1}), DataError);
  auto reconstructing = config.model;
  reconstructing.head = "reconstruct";
  Transformer other(reconstructing, config.attention, text_context, 5);
  CHECK_THROWS_WITH(generate(other, config.attention, text_context, {1}, {.count = 1}),
                    ContainsSubstring("\"reconstruct\" does not tell the next token"));
  CHECK_THROWS_WITH(other.new_state(1), ContainsSubstring("\"reconstruct\" does not tell the next token"));
}

TEST_CASE("trained model: weights of a checkpoint come back, and what is not a run is refused by name") {
  const ScratchFolder folder;
  const auto config = small_config("linear");
  train_run(config, {.folder = folder.path / "runs" / "one"});
  const auto trained = load_trained_model(folder.path);
  CHECK(trained.step == 3);
  CHECK(trained.config.id() == config.id());
  CHECK_FALSE(trained.model->is_training());
  Transformer fresh(config.model, config.attention, text_context, 0);
  CHECK_FALSE(at::equal(trained.model->parameters().front(), fresh.parameters().front()));
  CHECK(load_trained_model(folder.path / "runs" / "one" / "checkpoint").step == 3);

  train_run(small_config("softmax"), {.folder = folder.path / "runs" / "two"});
  CHECK_THROWS_WITH(load_trained_model(folder.path), ContainsSubstring("holds 2 runs"));
  CHECK_THROWS_WITH(load_trained_model("/nowhere/at/all"), ContainsSubstring("no such file or folder"));
}
