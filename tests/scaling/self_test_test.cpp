#include "scaling/self_test.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/json.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {
/// One source in which everything is as given.
bool passes(const char* id, double coverage, double rejects, int sweeps) {
  const Json source = {{"misfit", 0},
                       {"coverage", {{"E", 0.95}, {"alpha", coverage}}},
                       {"same_optimum", {2, 2}},
                       {"lack_of_fit", {{"true_law", rejects}, {"threshold", 1}, {"coupling", 1}}},
                       {"comparison", {{"equal", 0.05}, {"worse", 1}}}};
  for (const auto& each : self_test_criteria(Json::array({source}), sweeps))
    if (each["id"] == id) return each["passed"].get<bool>();
  return false;
}
}  // namespace

TEST_CASE("self_test: gates allow few sweeps what chance gives, and many no more than the band") {
  // 20 of 20 is seen in 36 % of tests of an exact method; 14 or fewer in .03 %, 15 in .2 %.
  CHECK(passes("coverage", 1, 0.05, 20));
  CHECK(passes("coverage", 15.0 / 20, 0.05, 20));
  CHECK_FALSE(passes("coverage", 14.0 / 20, 0.05, 20));
  CHECK(passes("true_law", 0.95, 0, 20));
  CHECK(passes("true_law", 0.95, 5.0 / 20, 20));
  CHECK_FALSE(passes("true_law", 0.95, 6.0 / 20, 20));
  for (const int sweeps : {200, 10000}) {
    CHECK_FALSE(passes("coverage", 0.8, 0.05, sweeps));
    CHECK_FALSE(passes("true_law", 0.95, 0.2, sweeps));
    CHECK(passes("coverage", 0.93, 0.05, sweeps));
    CHECK(passes("true_law", 0.95, 0.065, sweeps));
  }
  CHECK(passes("coverage", 0.92, 0.05, 10000));
  CHECK_FALSE(passes("coverage", 0.919, 0.05, 10000));
  CHECK_FALSE(passes("coverage", 0.981, 0.05, 10000));
  CHECK_FALSE(passes("true_law", 0.95, 0.029, 10000));
}

TEST_CASE("self_test: as a whole few sweeps of sound methods pass") {
  CHECK(self_test({.sweeps = 20, .seed = 0, .replicates = 100, .jobs = 2})["passed"] == true);
}

TEST_CASE(
    "self_test: a few sweeps of each source are within chance of what a thousand show, and threads do not matter") {
  const SelfTestOptions few{.sweeps = 60, .seed = 3, .replicates = 100, .jobs = 2};
  const auto result = self_test(few);
  REQUIRE(result["sources"].size() == 8);
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
