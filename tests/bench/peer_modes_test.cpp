#include "bench/peer_modes.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("peer modes: each has the ratios of pairs in turns, and the best is that with the lowest median") {
  const Timing ours{{1, 2, 4}};
  const auto beside = modes_beside({{"eager", {{3, 8, 8}}}, {"compiled", {{2, 4, 12}}}}, ours, "ms_per_token");
  CHECK(beside["best"] == "compiled");
  REQUIRE(beside["modes"].size() == 2);
  CHECK(beside["modes"][0]["mode"] == "eager");
  CHECK(beside["modes"][0]["ms_per_token"]["median"] == 8);
  CHECK(beside["modes"][0]["times_slower"]["median"] == 3);  // of 3, 4 and 2, where medians would say 4
  CHECK(beside["modes"][0]["times_slower"]["low"] == 2);
  CHECK(beside["modes"][1]["times_slower"]["median"] == 2);
}

TEST_CASE("peer modes: the processor's clock is refused for several threads") {
  CHECK(clock_named("processor", 1) == Clock::processor);
  CHECK(clock_named("wall", 4) == Clock::wall);
  CHECK_THROWS_WITH(clock_named("processor", 4), ContainsSubstring("adds up what 4 threads spend"));
}
