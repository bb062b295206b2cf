#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "seen_keys.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("fixed: a query sees its block and the summary columns of the others, by hand") {
  const auto causal = seen_keys("fixed", {{"block", 4}, {"summary", 2}}, true, 11);
  CHECK(causal[3] == Seen{0, 1, 2, 3});
  CHECK(causal[5] == Seen{2, 3, 4, 5});
  CHECK(causal[9] == Seen{2, 3, 6, 7, 8, 9});
  // The last block has no summary columns: its positions 10 and 11 would be, and only 10 is there.
  CHECK(seen_keys("fixed", {{"block", 4}, {"summary", 2}}, false, 11)[5] == Seen{2, 3, 4, 5, 6, 7, 10});
}

TEST_CASE("fixed: the state holds summaries of complete blocks and the open block alone") {
  const Geometry geometry{.context = 1000};
  const auto bytes = [&](int64_t keys) {
    return variant_named("fixed").cost({{"block", 100}, {"summary", 10}}, geometry, {1, 1, keys}).state_bytes;
  };
  CHECK(bytes(1000) == bytes(100) * 10);
  CHECK(bytes(150) == bytes(50) + bytes(100));
  CHECK(bytes(100) == 10 * 32 * 4);  // positions, D + E, bytes of a float32
}
