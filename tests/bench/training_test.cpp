#include "bench/training.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

/// What a bench of a tiny model says, with these options of `train`.
std::string refusal_of(const Json& train, const TrainingBench& bench) {
  Json given = {{"model", {{"depth", 1}, {"model_dim", 8}, {"num_heads", 1}}},
                {"data", {{"source", "zipf_memory"}, {"context", 16}}},
                {"train", {{"batch_size", 4}, {"steps", 8}}}};
  given["train"].update(train);
  std::vector<Problem> problems;
  const auto config = RunConfig::from_json(given, problems);
  REQUIRE(problems.empty());
  try {
    bench_training(config, bench);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("bench training: steps that grow are refused, since one size is timed") {
  const TrainingBench bench{.warmup = 0, .repetitions = 1};
  CHECK(refusal_of(Json::object(), bench) == "");
  CHECK_THAT(refusal_of({{"initial_batch_size", 2}}, bench),
             ContainsSubstring("train.initial_batch_size: received a ramp, expected steps of one size"));
  CHECK_THAT(refusal_of({{"initial_context", 8}}, bench), ContainsSubstring("train.initial_context: received a ramp"));
}

TEST_CASE("bench training: a run that recomputes its activations has no twin in the PyTorch script") {
  const TrainingBench bench{.warmup = 0, .repetitions = 1, .python = "no-such-python"};
  CHECK_THAT(refusal_of({{"activation_checkpointing", true}}, bench),
             ContainsSubstring("train.activation_checkpointing false only, received true"));
}
