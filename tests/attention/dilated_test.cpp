#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "seen_keys.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("dilated: a query sees every stride-th of the latest positions, by hand") {
  const auto causal = seen_keys("dilated", {{"window", 3}, {"stride", 2}}, true, 9);
  CHECK(causal[0] == Seen{0});
  CHECK(causal[3] == Seen{1, 3});
  CHECK(causal[8] == Seen{4, 6, 8});
  // Window 3: one step before and one after. Window 4: two before, one after.
  CHECK(seen_keys("dilated", {{"window", 3}, {"stride", 2}}, false, 9)[4] == Seen{2, 4, 6});
  CHECK(seen_keys("dilated", {{"window", 4}, {"stride", 3}}, false, 12)[7] == Seen{1, 4, 7, 10});
}

TEST_CASE("dilated: work does not grow with the stride") {
  const auto flops = [](int64_t stride) {
    return variant_named("dilated").cost({{"window", 32}, {"stride", stride}}, {.context = 4096}, {1, 4096, 4096});
  };
  // A stride of 8 leaves rows of 512 positions, whose first 31 see less: within a twentieth.
  CHECK(flops(8).executed_flops <= flops(1).executed_flops);
  CHECK(flops(8).executed_flops > 0.8 * flops(1).executed_flops);
}
