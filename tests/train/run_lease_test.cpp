// A run under a lease (core/lease.h): the same bits as without, and nothing from one that has lost it.

#include <catch2/catch_test_macros.hpp>

#include "core/files.h"
#include "core/hash.h"
#include "core/lease.h"
#include "scratch_folder.h"
#include "train/trainer.h"

using namespace attnscale;

namespace {

RunConfig leased_config() {
  const auto json = Json::parse(R"({
    "model": {"depth": 1, "model_dim": 16, "num_heads": 2},
    "data": {"source": "zipf_memory", "context": 8, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 20, "batch_size": 2, "warmup_steps": 5, "eval_every": 10, "eval_tokens": 64,
              "checkpoint_every": 4}})");
  std::vector<Problem> problems;
  auto config = RunConfig::from_json(json, problems);
  REQUIRE(problems.empty());
  return config;
}

RunControl control_of(const std::filesystem::path& folder, const Lease& lease) {
  RunControl control{.folder = folder};
  control.stage = lease.stage();
  return control;
}

/// Hashes of log and final weights.
std::string bits_of_run(const std::filesystem::path& folder) {
  return sha256_of_file(folder / "log.jsonl") + sha256_of_file(folder / "checkpoint" / "step-20" / "model.safetensors");
}

}  // namespace

TEST_CASE(
    "run_lease: one holder after another ends with the bits of a run without a lease, and leaves nothing behind") {
  const ScratchFolder scratch;
  train_run(leased_config(), {.folder = scratch / "alone"});
  const auto folder = scratch / "leased";
  make_folder(folder);
  for (const int64_t stop_after : {3, 6, 100}) {
    const auto lease = Lease::take(folder, 60);
    REQUIRE(lease);
    auto control = control_of(folder, *lease);
    control.stop = [left = stop_after]() mutable { return --left == 0; };
    train_run(leased_config(), control);
  }
  CHECK(bits_of_run(folder) == bits_of_run(scratch / "alone"));
  CHECK(std::filesystem::exists(folder / "result.json"));
  int left = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "lease-3")) left += entry.path() != "";
  CHECK(left == 1);  // owner.json
}

TEST_CASE("run_lease: a holder whose run is taken over at any step stops, and the other ends with the right bits") {
  const ScratchFolder scratch;
  train_run(leased_config(), {.folder = scratch / "alone"});
  for (const int64_t step : {1, 4, 5, 19}) {
    INFO(step);
    const auto folder = scratch / std::to_string(step);
    make_folder(folder);
    const auto first = Lease::take(folder, 60);
    std::unique_ptr<Lease> second;
    auto control = control_of(folder, *first);
    control.stop = [&, left = step]() mutable {
      if (--left == 0) second = Lease::take(folder, 60, 1);  // it slept here; the other begins
      return false;
    };
    CHECK_THROWS_AS(train_run(leased_config(), control), LeaseLost);
    CHECK_FALSE(std::filesystem::exists(folder / "result.json"));
    REQUIRE(second);
    train_run(leased_config(), control_of(folder, *second));
    CHECK(bits_of_run(folder) == bits_of_run(scratch / "alone"));
  }
}
