#include "bench/generation.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "python_with_torch.h"
#include "train/run_of.h"

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

TEST_CASE("bench generate: what keeps no state is refused") {
  auto config = decoding_run();
  config.attention = {.variant = "nystrom"};
  CHECK_THROWS_MATCHES(bench_generation(config, {}), ConfigError,
                       MessageMatches(ContainsSubstring("keeps no decode state")));
}
