#include "bench/generation.h"

#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "bench/peer_script.h"
#include "bench/peer_source.h"
#include "bench/python_peer.h"
#include "core/error.h"
#include "model/transformer.h"
#include "python_with_torch.h"
#include "scratch_folder.h"
#include "train/checkpoint.h"
#include "train/run_of.h"
#include "train/safetensors.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

RunConfig decoding_run(const Json& changes = Json::object()) {
  return run_of(Json::parse(R"({
    "model": {"depth": 2, "model_dim": 16, "num_heads": 2, "bias": false},
    "data": {"source": "zipf_memory", "context": 16, "num_keys": 10, "num_labels": 4}, "train": {}})"),
                changes);
}

}  // namespace

TEST_CASE("bench generate: a row for each length, whose state holds what was read and added") {
  const GenerationBench bench{.lengths = {30, 7}, .tokens = 2, .warmup = 1, .repetitions = 3, .python = ""};
  const auto result = bench_generation(decoding_run(), bench);
  REQUIRE(result["rows"].size() == 2);
  CHECK(result["rows"][0]["length"] == 7);
  // Two layers keep 16 numbers of key and as many of value for each of 7 + 2 (1 + 3) tokens.
  CHECK(result["rows"][0]["state_bytes"] == 2 * 2 * 16 * 15 * 4);
  CHECK(result["rows"][1]["state_bytes"] == 2 * 2 * 16 * 38 * 4);
  CHECK(result["rows"][1]["ms_per_token"]["repetitions"] == 3);
  auto halved = bench;
  halved.dtype = "bfloat16";
  CHECK(bench_generation(decoding_run(), halved)["rows"][1]["state_bytes"] == 2 * 2 * 16 * 38 * 2);
}

TEST_CASE("bench generate: PyTorch's model with a cache stands beside ours in both dtypes") {
  const auto python = python_with_torch();
  if (python.empty()) SKIP("no Python with torch");
  const auto result = bench_generation(
      decoding_run(), {.lengths = {600}, .tokens = 2, .warmup = 0, .repetitions = 3, .python = python});
  const auto& theirs = result["rows"][0]["python"];
  REQUIRE(theirs["modes"].size() == 2);
  for (const auto& mode : theirs["modes"]) {
    CHECK(mode["ms_per_token"]["repetitions"] == 3);
    CHECK(mode["times_slower"]["median"].get<double>() > 0);
  }
  CHECK(result["python"]["left_out"].empty());
}

TEST_CASE("generation script: from the same weights PyTorch's model has our logits and adds our tokens") {
  const auto python = python_with_torch();
  if (python.empty()) SKIP("no Python with torch");
  const torch::NoGradGuard no_gradients;
  for (const bool bias : {false, true}) {
    CAPTURE(bias);
    const auto config = decoding_run({{"model.bias", bias}, {"data.context", 64}});
    Transformer model(config.model, config.attention, config.data.context, 7);
    model.eval();
    // Weights so large, those of positions most, that a text does not go on with one token again and again.
    torch::manual_seed(3);
    for (auto& of : model.named_parameters()) {
      const double by = of.key() == "embedding.position" ? 5 : of.value().dim() > 1 ? 0.5 : 0.1;
      of.value().add_(torch::randn_like(of.value()), by);
    }
    const ScratchFolder folder;
    write_safetensors(folder / "model.safetensors", tensors_of(model));
    PythonPeer peer(python, with_common_module(generate_peer_script), 1);
    const auto vocabulary = *config.model.vocab_size;
    const auto about = peer.ask({{"vocab", vocabulary},
                                 {"context", config.data.context},
                                 {"depth", config.model.depth},
                                 {"dim", config.model.model_dim},
                                 {"heads", config.model.num_heads},
                                 {"bias", bias},
                                 {"weights", (folder / "model.safetensors").string()},
                                 {"threads", 1},
                                 {"clock", "wall"}});
    REQUIRE(about["left_out"].empty());
    auto state = model.new_state(1);
    int64_t newest = 0;
    // The first piece has nothing before it; the second is masked where it meets itself; one token sees all.
    for (const int64_t length : {20, 13, 1}) {
      CAPTURE(length);
      const auto text = torch::randint(vocabulary, {length}, torch::kLong);
      const auto logits = model.decode(text.unsqueeze(0), state)[0][-1];
      const std::vector<int64_t> tokens(text.data_ptr<int64_t>(), text.data_ptr<int64_t>() + length);
      const auto theirs = peer.ask({{"mode", "eager float32"}, {"text", tokens}});
      const auto numbers = theirs["logits"].get<std::vector<double>>();
      REQUIRE(std::ssize(numbers) == vocabulary);
      // Float32 on both sides, sums in another order.
      const double off = (torch::tensor(numbers, torch::kDouble) - logits).abs().max().item<double>();
      CHECK(off < 1e-5 * logits.abs().max().item<double>());
      newest = logits.argmax().item<int64_t>();
      CHECK(theirs["newest"] == newest);
    }
    std::set<int64_t> added;
    for (int i = 0; i < 20; ++i) {
      newest = model.decode(torch::full({1, 1}, newest, torch::kLong), state)[0][-1].argmax().item<int64_t>();
      CHECK(peer.ask({{"mode", "eager float32"}, {"tokens", 1}})["newest"] == newest);
      added.insert(newest);
    }
    CHECK(added.size() > 3);
  }
}

TEST_CASE("bench generate: what keeps no state is refused") {
  auto config = decoding_run();
  config.attention = {.variant = "nystrom"};
  CHECK_THROWS_MATCHES(bench_generation(config, {}), ConfigError,
                       MessageMatches(ContainsSubstring("keeps no decode state")));
}
