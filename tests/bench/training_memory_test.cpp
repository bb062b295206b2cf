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
  const auto grows = [](const char* variant, const std::vector<double>& contexts) {
    std::vector<double> needs;
    for (const double context : contexts) needs.push_back(bytes(variant, static_cast<int64_t>(context)));
    return *exponent(contexts, needs);
  };
  for (const auto* variant : {"softmax", "sliding_window", "linear"}) {
    CAPTURE(variant);
    // At shorter contexts the half mebibyte that the kernels work in shows beside so small a model's step.
    const double of_length = grows(variant, {4096, 8192, 16384});
    CHECK(of_length > 0.9);
    CHECK(of_length < 1.02);
  }
  CHECK(grows("sigmoid", {2048, 4096, 8192}) > 1.5);  // keeps every weight
}
