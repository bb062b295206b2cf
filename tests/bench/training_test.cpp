#include "bench/training.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "tensor/kernels/kernels.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinRel;

namespace {

RunConfig config_of(const Json& given) {
  std::vector<Problem> problems;
  const auto config = RunConfig::from_json(given, problems);
  REQUIRE(problems.empty());
  return config;
}

/// What a bench of a tiny model says, with these options of `train`.
std::string refusal_of(const Json& train, const TrainingBench& bench) {
  Json given = {{"model", {{"depth", 1}, {"model_dim", 8}, {"num_heads", 1}}},
                {"data", {{"source", "zipf_memory"}, {"context", 16}}},
                {"train", {{"batch_size", 4}, {"steps", 8}}}};
  given["train"].update(train);
  const auto config = config_of(given);
  try {
    bench_training(config, bench);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("bench training: its share of the peak is of what a step multiplies, not of the plan's full squares") {
  constexpr int depth = 2, width = 16, length = 192, rows = 3;
  const auto config = config_of({{"model", {{"depth", depth}, {"model_dim", width}, {"num_heads", 2}, {"bias", false}}},
                                 {"data", {{"source", "zipf_memory"}, {"context", length}}},
                                 {"train", {{"batch_size", rows}, {"steps", 8}}}});
  const auto vocabulary = static_cast<double>(*config.model.vocab_size);
  // Matrices of a block: M x 3 M, M x M, and two of M x 4 M; the head. Each meets every token three times.
  const double products = 3.0 * 2 * rows * length * (depth * 12 * width * width + width * vocabulary);
  // Scores and weighted values of the whole square, which the plan charges three times. In fact the backward pass
  // computes the scores again, and five products are two and a half passes.
  const double square = 2.0 * 2 * rows * depth * length * length * width;
  const KernelsAsBefore as_before;
  for (const bool kernels : {false, true}) {
    CAPTURE(kernels);
    set_kernels(kernels);
    const auto result = bench_training(config, {.warmup = 0, .repetitions = 1});
    CHECK_THAT(result["executed_flops_per_step"].get<double>(), WithinRel(products + 3 * square, 1e-12));
    // Kernels: of 3 x 3 tiles of 64 those on the diagonal and below it. LibTorch: pairs up to the diagonal.
    const double seen = kernels && kernels_on() ? 6.0 / 9 : (length + 1) / (2.0 * length);
    const double computed = products + 3.5 * seen * square;
    CHECK_THAT(result["computed_flops_per_step"].get<double>(), WithinRel(computed, 1e-12));
    const double gflops = computed / result["step_time_ms"].get<double>() * 1e-6;
    CHECK_THAT(result["gflops"].get<double>(), WithinRel(gflops, 1e-9));
    CHECK_THAT(result["of_gemm_peak"].get<double>(), WithinRel(gflops / result["gemm_gflops"].get<double>(), 1e-9));
  }
}

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
