#include "train/deterministic.h"

#include <cstdlib>
#include <string>

#include <ATen/Context.h>
#include <catch2/catch_test_macros.hpp>

#include "scratch_folder.h"
#include "train/run_of.h"
#include "train/trainer.h"

using namespace attnscale;

TEST_CASE("deterministic: the guard asks PyTorch, cuDNN and cuBLAS for it, and leaves things as it found them") {
  const auto& context = at::globalContext();
  REQUIRE_FALSE(context.deterministicAlgorithms());
  const bool benchmark = context.benchmarkCuDNN();
  {
    const DeterministicAlgorithms off(false);
    CHECK_FALSE(context.deterministicAlgorithms());
  }
  {
    const DeterministicAlgorithms on(true);
    CHECK(context.deterministicAlgorithms());
    CHECK_FALSE(context.deterministicAlgorithmsWarnOnly());
    CHECK(context.deterministicCuDNN());
    CHECK_FALSE(context.benchmarkCuDNN());
    CHECK(std::string(std::getenv("CUBLAS_WORKSPACE_CONFIG")) == ":4096:8");
    // An operator without a deterministic form says so: the guard is more than a flag of ours.
    CHECK_THROWS_AS(at::globalContext().alertNotDeterministic("some_operator"), c10::Error);
  }
  CHECK_FALSE(context.deterministicAlgorithms());
  CHECK_FALSE(context.deterministicCuDNN());
  CHECK(context.benchmarkCuDNN() == benchmark);
}

TEST_CASE("deterministic: a run on a CUDA device ends with the same bits twice, and has the same id without",
          "[cuda]") {
  if (!at::hasCUDA()) SKIP("no CUDA device");
  const ScratchFolder scratch;
  const auto config = [](bool deterministic) {
    auto json = Json::parse(R"({
      "model": {"depth": 2, "model_dim": 64, "num_heads": 4, "dropout": 0.1, "position": "relative"},
      "data": {"source": "zipf_memory", "context": 64},
      "train": {"steps": 30, "batch_size": 16, "eval_tokens": 1024, "device": "cuda"}})");
    if (deterministic) json["train"]["deterministic"] = true;
    return run_of(json, Json::object());
  };
  const auto one = train_run(config(true), {scratch / "one", {}, {}});
  const auto two = train_run(config(true), {scratch / "two", {}, {}});
  REQUIRE(one["status"] == "done");
  CHECK(one["loss"] == two["loss"]);
  CHECK(one["provenance"]["log_sha256"] == two["provenance"]["log_sha256"]);
  CHECK(config(false).id() == config(true).id());
}
