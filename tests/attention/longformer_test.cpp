#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "seen_keys.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("longformer: a query sees its window and the global positions, which see all, by hand") {
  const Json options = {{"window", 3}, {"global_positions", 2}};
  const auto causal = seen_keys("longformer", options, true, 9);
  CHECK(causal[1] == Seen{0, 1});
  CHECK(causal[3] == Seen{0, 1, 2, 3});
  CHECK(causal[8] == Seen{0, 1, 6, 7, 8});
  const auto both = seen_keys("longformer", options, false, 9);
  CHECK(both[1] == Seen{0, 1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(both[6] == Seen{0, 1, 5, 6, 7});
}

TEST_CASE("longformer: work and state stop growing with more than the length") {
  const auto cost = [](int64_t t) {
    return variant_named("longformer").cost({{"window", 64}, {"global_positions", 4}}, {.causal = false}, {1, t, t});
  };
  // Bidirectional: global rows cost T for each global block too, so twice the length is twice the work, up to the ends.
  CHECK(cost(16384).executed_flops < 2.05 * cost(8192).executed_flops);
  CHECK(cost(16384).state_bytes == cost(8192).state_bytes);
}
