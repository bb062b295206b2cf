#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "seen_keys.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("strided: a query sees the band and every stride-th position, by hand") {
  const auto causal = seen_keys("strided", {{"stride", 3}}, true, 11);
  CHECK(causal[2] == Seen{0, 1, 2});
  CHECK(causal[10] == Seen{1, 4, 7, 8, 9, 10});
  CHECK(seen_keys("strided", {{"stride", 3}}, false, 11)[4] == Seen{1, 2, 3, 4, 5, 6, 7, 10});
}

TEST_CASE("strided: a stride of the square root makes work grow with T^1.5") {
  const auto flops = [](int64_t stride) {
    const int64_t t = stride * stride;
    return variant_named("strided").cost({{"stride", stride}}, {.context = t}, {1, t, t}).executed_flops;
  };
  // T (2 stride + stride) pairs, exactly: T is a whole number of strides.
  CHECK(flops(64) == 8 * flops(32));
}
