#include "bench/training_memory.h"

#include <catch2/catch_test_macros.hpp>

#include "bench/crossover.h"

using namespace attnscale;

namespace {

double bytes(const char* variant, int64_t context) {
  const Json json = {{"model", {{"depth", 1}, {"model_dim", 16}, {"num_heads", 1}}},
                     {"attention", {{"variant", variant}}},
                     {"data", {{"source", "zipf_memory"}, {"num_keys", 10}, {"num_labels", 4}, {"context", context}}},
                     {"train", {{"batch_size", 1}}}};
  std::vector<Problem> problems;
  const auto config = RunConfig::from_json(json, problems);
  REQUIRE(problems.empty());
  return static_cast<double>(training_step_bytes(config));
}

}  // namespace

TEST_CASE(
    "training memory: a step of softmax, window and linear attention grows as the context, one of sigmoid faster") {
  const auto grows = [](const char* variant) {
    return *exponent({2048, 4096, 8192}, {bytes(variant, 2048), bytes(variant, 4096), bytes(variant, 8192)});
  };
  for (const auto* variant : {"softmax", "sliding_window", "linear"}) {
    CAPTURE(variant);
    CHECK(grows(variant) > 0.9);
    CHECK(grows(variant) < 1.02);
  }
  CHECK(grows("sigmoid") > 1.5);  // keeps every weight
}
