#include <algorithm>
#include <cmath>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "claim_samples.h"
#include "scaling/statistics.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;
using claim_samples::One;
using claim_samples::verdict_on;

namespace {

const std::string deeper_is_lower = R"([{"claim": "deeper is lower", "measure": "loss", "of": "depth > 2",
                                         "against": "depth <= 2", "below": 0}])";

}  // namespace

TEST_CASE("claims: what follows from the option along which a slope is taken does not pair runs") {
  std::vector<One> runs;  // ffn_dim is 4 x depth
  for (int seed = 0; seed < 3; ++seed)
    for (const int depth : {2, 4, 8}) runs.push_back({.depth = depth, .seed = seed, .loss = 5 + 0.1 * seed * depth});
  const auto claim =
      verdict_on(runs, R"([{"claim": "steeper", "measure": "loss", "along": "depth", "above": 0}])")["claims"][0];
  CHECK_THAT(claim["estimate"].get<double>(), WithinAbs(0.1, 1e-12));
  CHECK_THAT(claim["by_seed"][2].get<double>(), WithinAbs(0.2, 1e-12));
}

TEST_CASE("claims: a tuned option is chosen in each setting by itself, in whatever order the runs stand") {
  std::vector<One> runs;  // at depth 4 rate 0.1 is best, at depth 8 rate 0.2; depth 2 gives 2 at both
  for (int seed = 0; seed < 4; ++seed)
    for (const double rate : {0.1, 0.2}) {
      runs.push_back({.depth = 2, .rate = rate, .seed = seed, .loss = 2});
      runs.push_back({.depth = 4, .rate = rate, .seed = seed, .loss = rate == 0.1 ? 1.5 : 3});
      runs.push_back({.depth = 8, .rate = rate, .seed = seed, .loss = rate == 0.2 ? 1 : 3.5});
    }
  const std::string tuned = R"([{"claim": "tuned", "measure": "loss", "of": "depth > 2", "against": "depth <= 2",
                                 "tune": "train.learning_rate", "below": 0}])";
  const auto claim = verdict_on(runs, tuned)["claims"][0];
  CHECK_THAT(claim["estimate"].get<double>(), WithinAbs(-0.75, 1e-12));
  std::reverse(runs.begin(), runs.end());
  CHECK(verdict_on(runs, tuned)["claims"][0]["by_seed"] == claim["by_seed"]);
}

TEST_CASE("claims: a seed that lacks one of the runs which others have is left out and said so") {
  std::vector<One> runs;
  for (int seed = 0; seed < 4; ++seed) {
    runs.push_back({.depth = 2, .seed = seed, .loss = 3});
    runs.push_back({.depth = 4, .seed = seed, .loss = 2.9 + 0.01 * seed});
    if (seed != 2) runs.push_back({.depth = 8, .seed = seed, .loss = 1});
  }
  auto claim = verdict_on(runs, deeper_is_lower)["claims"][0];
  CHECK(claim["seeds"] == Json({0, 1, 3}));
  CHECK_THAT(claim["by_seed"][0].get<double>(), WithinAbs(-1.05, 1e-12));
  CHECK_THAT(claim["notes"].dump(), ContainsSubstring("1 of 4 seeds lacks a run that others have, and is left out"));
  runs.push_back({.depth = 2, .seed = 4, .loss = {}, .status = "oom"});  // no run of this one has ended
  claim = verdict_on(runs, deeper_is_lower)["claims"][0];
  CHECK_THAT(claim["notes"].dump(), ContainsSubstring("2 of 5 seeds lack a run that others have, and are left out"));
}

TEST_CASE("claims: runs that carry flags are counted in a note") {
  std::vector<One> runs;
  for (int seed = 0; seed < 3; ++seed)
    for (const int depth : {2, 4})
      runs.push_back({.depth = depth, .seed = seed, .loss = 3 - 0.1 * depth + 0.01 * seed});
  CHECK(verdict_on(runs, deeper_is_lower)["claims"][0]["notes"].dump().find("flags") == std::string::npos);
  runs[0].flags = {"loss_jump"};
  CHECK_THAT(verdict_on(runs, deeper_is_lower)["claims"][0]["notes"].dump(),
             ContainsSubstring("runs that carry flags count all the same: 1 here"));
}

TEST_CASE("claims: small numbers scatter too") {
  std::vector<One> runs;
  for (int seed = 0; seed < 8; ++seed) runs.push_back({.seed = seed, .loss = (seed % 2 == 0 ? 1e-14 : -2e-14)});
  const auto claim = verdict_on(runs, R"([{"claim": "small", "measure": "loss", "below": 1e-15}])")["claims"][0];
  CHECK(claim["verdict"] == "undecided");
  CHECK(claim.contains("low"));
}

TEST_CASE(
    "claims: the interval of a tuned number holds the truth as often as it says, also where all values are alike") {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  int covered = 0;
  constexpr int sweeps = 200;
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    std::vector<One> runs;
    for (int seed = 0; seed < 8; ++seed)
      for (const double rate : {0.01, 0.02, 0.04, 0.08, 0.16})
        for (const auto* dtype : {"float32", "bfloat16"})
          runs.push_back({.dtype = dtype, .rate = rate, .seed = seed, .loss = 100 + normal(random)});
    const auto claim = verdict_on(runs, R"([{"claim": "lower", "measure": "loss", "of": "dtype == 'bfloat16'",
        "against": "dtype == 'float32'", "tune": "train.learning_rate", "below": 0}])")["claims"][0];
    covered += claim["low"].get<double>() <= 0 && 0 <= claim["high"].get<double>();
  }
  INFO("covered " << covered << " of " << sweeps);
  CHECK(binomial_at_most(covered, sweeps, 0.95) > 1e-3);  // Student's over numbers tuned by all others covers 80 %
}

TEST_CASE("claims: two seeds that chose for each other have no interval") {
  std::vector<One> runs;
  for (int seed = 0; seed < 2; ++seed)
    for (const double rate : {0.1, 0.2, 0.4}) runs.push_back({.rate = rate, .seed = seed, .loss = rate + seed});
  const auto claim = verdict_on(
      runs, R"([{"claim": "a", "measure": "loss", "tune": "train.learning_rate", "below": 9}])")["claims"][0];
  CHECK(claim["verdict"] == "undecided");
  CHECK(claim["more_seeds"] == 1);
}
