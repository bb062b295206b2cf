// What the conformance run cannot know about segment-level recurrence: only distances matter.

#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"

using namespace attnscale;

TEST_CASE("segment_recurrent: a segment that repeats after a segment that repeats gives the same outputs") {
  torch::manual_seed(6);
  const auto repeated = [] { return torch::randn({1, 2, 8, 4}, torch::kFloat64).repeat({1, 1, 4, 1}); };
  const auto attention =
      variant_named("segment_recurrent")
          .make({{"segment", 8}},
                {.num_heads = 2, .num_kv_heads = 2, .head_dim = 4, .value_dim = 4, .context = 32, .model_dim = 9});
  attention->to(torch::kFloat64);
  const torch::NoGradGuard guard;
  for (auto& parameter : attention->parameters()) parameter.normal_(0, 0.5);
  const auto output = attention->forward({.query = repeated(), .key = repeated(), .value = repeated()});
  const auto segment = [&](int64_t i) { return output.narrow(2, 8 * i, 8); };
  CHECK((segment(2) - segment(1)).abs().max().item<double>() < 1e-14);  // the same sums
  CHECK((segment(1) - segment(0)).abs().max().item<double>() > 1e-2);   // the first has no memory
}
