#include "bench/curve.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "bench/python_training.h"
#include "bench/steps.h"
#include "core/error.h"
#include "python_with_torch.h"
#include "tensor/kernels/kernels.h"
#include "train/checkpoint.h"
#include "train/run_of.h"
#include "train/safetensors.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

RunConfig small_run(const Json& changes = Json::object()) {
  return run_of(Json::parse(R"({
    "model": {"depth": 2, "model_dim": 32, "num_heads": 2, "bias": false},
    "data": {"source": "zipf_memory", "context": 16, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 60, "batch_size": 4, "learning_rate": 0.003, "weight_decay": 0.1, "clip_norm": 0.5}})"),
                changes);
}

}  // namespace

TEST_CASE("curve: bfloat16 with the kernels learns as float32 on LibTorch's operators does, within 0.5 %") {
  const KernelsAsBefore as_before;
  set_kernels(true);
  const auto result =
      bench_curve(small_run({{"train.dtype", "bfloat16"}}), {.threads = 1, .steps = 60, .window = 20, .python = ""});
  CHECK(result["kernels"] == kernels_in_use());
  REQUIRE(result["loss"]["run"].size() == 3);
  CHECK(result["loss"]["run"] != result["loss"]["float32"]);
  CHECK(result["final"]["run"].get<double>() < result["loss"]["run"][0].get<double>() - 0.1);  // it learns
  CHECK(result["worst"]["float32"].get<double>() < 0.005);
  CHECK(std::abs(result["last"]["float32"].get<double>()) <= result["worst"]["float32"].get<double>());
}

TEST_CASE("curve: float32 without the kernels is the reference itself, to the bit") {
  const KernelsAsBefore as_before;
  set_kernels(false);
  const auto result = bench_curve(small_run(), {.threads = 1, .steps = 6, .window = 3, .python = ""});
  CHECK(result["loss"]["run"] == result["loss"]["float32"]);
  CHECK(result["worst"]["float32"] == 0);
}

TEST_CASE("curve: what would differ for other reasons is refused") {
  const auto refused = [](const Json& changes, const CurveBench& bench, const std::string& reason) {
    CHECK_THROWS_MATCHES(bench_curve(small_run(changes), bench), ConfigError,
                         MessageMatches(ContainsSubstring(reason)));
  };
  refused({{"model.dropout", 0.1}}, {.steps = 50}, "draw other numbers");
  refused(Json::object(), {.steps = 60, .window = 50}, "60 steps are no multiple of a window of 50");
}

TEST_CASE("training script: from the same weights on the same batches PyTorch's loop has our losses") {
  const auto python = python_with_torch();
  if (python.empty()) SKIP("no Python with torch");
  const KernelsAsBefore as_before;
  set_kernels(false);
  for (const bool bias : {false, true}) {
    CAPTURE(bias);
    const auto result =
        bench_curve(small_run({{"model.bias", bias}}), {.threads = 1, .steps = 12, .window = 1, .python = python});
    REQUIRE(result["loss"]["python"].size() == 12);
    // Float32 on both sides, sums in another order, through twelve updates.
    CHECK(result["worst"]["python"].get<double>() < 1e-5);
  }
}

TEST_CASE("training script: it makes the steps that it is asked for in the modes that it has, and no others") {
  const auto python = python_with_torch();
  if (python.empty()) SKIP("no Python with torch");
  const auto config = small_run();
  PythonTraining training(config, {.python = python, .modes = {"eager bfloat16", "eager float32"}, .warmup = 1});
  CHECK(training.modes() == std::vector<std::string>{"eager bfloat16", "eager float32"});
  CHECK(training.left_out().empty());
  CHECK(training.train("eager float32") > 0);
  CHECK(training.train("eager bfloat16", 3) > 0);
  CHECK(training.peak_memory_bytes() > 0);
  CHECK_THROWS_MATCHES(PythonTraining(config, {.python = python, .modes = {"eagre float32"}}), ConfigError,
                       MessageMatches(ContainsSubstring("did you mean \"eager float32\"")));
  CHECK_THROWS_MATCHES(PythonTraining(small_run({{"model.norm", "rms_norm"}}), {.python = python, .modes = {}}),
                       ConfigError, MessageMatches(ContainsSubstring("model.norm")));
}
