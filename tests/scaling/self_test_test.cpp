#include "scaling/self_test.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/json.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

TEST_CASE(
    "self_test: a few sweeps of each source are within chance of what a thousand show, and threads do not matter") {
  const SelfTestOptions few{.sweeps = 60, .seed = 3, .replicates = 100, .jobs = 2};
  const auto result = self_test(few);
  REQUIRE(result["sources"].size() == 7);
  for (const auto& source : result["sources"]) {
    INFO(source.dump());
    // A coverage of 92 % gives fewer than 49 of 60 once in 400 draws (binomial).
    for (const auto& [name, rate] : source["coverage"].items()) CHECK(rate.get<double>() >= 49.0 / 60);
    // 5 % gives more than 9 of 60 once in 800 draws.
    CHECK(source["comparison"]["equal"].get<double>() <= 9.0 / 60);
    CHECK(source["comparison"]["worse"].get<double>() > 0.9);
    CHECK(source["same_optimum"][0] == source["same_optimum"][1]);
    if (!source.contains("lack_of_fit")) continue;
    if (source["misfit"] == 0) CHECK(source["lack_of_fit"]["true_law"].get<double>() <= 9.0 / 60);
    CHECK(source["lack_of_fit"]["coupling"].get<double>() > 0.9);
  }
  auto alone = few;
  alone.jobs = 1;
  CHECK(self_test(alone).dump() == result.dump());
  CHECK_THAT(self_test_text(result), ContainsSubstring("zipf_memory") && ContainsSubstring("nominal 95 % intervals"));
}
