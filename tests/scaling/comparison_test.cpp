#include "scaling/comparison.h"

#include <algorithm>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;

namespace {
PairedRun run(const std::string& variant, const std::string& key, double loss) {
  return {.variant = variant, .key = key, .done = true, .loss = loss, .params = 100};
}
}  // namespace

TEST_CASE("comparison: mean and t-interval of three pairs by hand; runs without a partner are left out") {
  // Differences -0.1, -0.2, -0.3: mean -0.2, sd 0.1, t(0.975, 2) = 4.302653, half width 4.302653 * 0.1 / sqrt 3.
  const auto result = compare_variants({run("a", "1", 1.0), run("b", "1", 1.1), run("a", "2", 1.0), run("b", "2", 1.2),
                                        run("b", "3", 1.3), run("a", "3", 1.0), run("a", "4", 9.0)});
  REQUIRE(result.size() == 1);
  CHECK(result[0]["pairs"] == 3);
  CHECK_THAT(result[0]["mean_difference"].get<double>(), WithinAbs(-0.2, 1e-12));
  CHECK_THAT(result[0]["interval"][0].get<double>(), WithinAbs(-0.2 - 0.2484138, 1e-6));
  CHECK_THAT(result[0]["interval"][1].get<double>(), WithinAbs(-0.2 + 0.2484138, 1e-6));
  CHECK(result[0]["verdict"] == "no difference shown");
}

TEST_CASE("comparison: a difference beyond its interval names the better variant and by how much") {
  const auto result = compare_variants({run("a", "1", 1.0), run("b", "1", 0.9), run("a", "2", 1.0),
                                        run("b", "2", 0.901), run("a", "3", 1.0), run("b", "3", 0.899)});
  CHECK(result[0]["verdict"] == "b lower by 0.1");
}

TEST_CASE("comparison: one pair is too few, and a diverged partner is counted as lost") {
  auto broken = run("b", "2", 0);
  broken.done = false;
  const auto result = compare_variants({run("a", "1", 1.0), run("b", "1", 0.9), run("a", "2", 1.0), broken});
  CHECK(result[0]["pairs"] == 1);
  CHECK(result[0]["lost_pairs"] == 1);
  CHECK_FALSE(result[0].contains("interval"));
  CHECK_THAT(result[0]["verdict"].get<std::string>(), ContainsSubstring("too few pairs"));
}

TEST_CASE("comparison: one seed per size gives no verdict, however clear the differences, but says what to run") {
  std::vector<PairedRun> runs;
  for (const char* size : {"small", "middle", "large"})
    for (const char* variant : {"a", "b"}) {
      runs.push_back(run(variant, size, variant[0] == 'a' ? 1.0 : 2.0));
      runs.back().cell = size;
    }
  const auto one = compare_variants(runs)[0];
  CHECK_THAT(one["verdict"].get<std::string>(),
             ContainsSubstring("no verdict") && ContainsSubstring("each of the 3 sizes with at least 2 more seeds"));
  CHECK_FALSE(one.contains("corrected_p"));
  // A second seed of one size is enough to measure chance.
  for (const char* variant : {"a", "b"}) {
    runs.push_back(run(variant, "small again", variant[0] == 'a' ? 1.001 : 2.0));
    runs.back().cell = "small";
  }
  CHECK_THAT(compare_variants(runs)[0]["verdict"].get<std::string>(), ContainsSubstring("a lower by"));
}

TEST_CASE("comparison: equal variants differ about once in twenty times") {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal(2.0, 0.004);
  int different = 0;
  for (int trial = 0; trial < 400; ++trial) {
    std::vector<PairedRun> runs;
    for (int i = 0; i < 6; ++i) {
      runs.push_back(run("a", std::to_string(i), normal(random)));
      runs.push_back(run("b", std::to_string(i), normal(random)));
    }
    different += compare_variants(runs)[0]["verdict"] != "no difference shown";
  }
  // Expected 20 of 400, standard deviation 4.4: three of them either way.
  CHECK(different >= 7);
  CHECK(different <= 33);
}

TEST_CASE("comparison: many seeds of two sizes that disagree are two observations, not many") {
  std::vector<PairedRun> runs;
  for (const auto* size : {"small", "large"})
    for (int seed = 0; seed < 5; ++seed) {
      const auto key = std::string(size) + std::to_string(seed);
      for (const auto* variant : {"a", "b"}) {
        auto one = run(variant, key, 1.0 + 0.001 * seed);
        one.cell = size;
        if (std::string(variant) == "b") one.loss += std::string(size) == "small" ? 0.1 : -0.05;
        runs.push_back(one);
      }
    }
  const auto result = compare_variants(runs)[0];
  CHECK(result["pairs"] == 10);
  CHECK(result["cells"] == 2);
  CHECK(result["sign_changes_with_size"] == true);
  CHECK(result["verdict"] == "no difference shown");
}

TEST_CASE(
    "comparison: of six pairs of four equal variants, one shows a difference in one sweep of twenty, not of four") {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal(2.0, 0.004);
  int sweeps = 0;
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<PairedRun> runs;
    for (int i = 0; i < 6; ++i)
      for (const char* variant : {"a", "b", "c", "d"}) runs.push_back(run(variant, std::to_string(i), normal(random)));
    const auto result = compare_all(runs);
    REQUIRE(result.size() == 6);
    sweeps += std::any_of(result.begin(), result.end(), [](const PairComparison& each) { return each.shown(); });
  }
  // At most 15 of 300 expected, standard deviation 3.8: three of them above. Uncorrected it would be about 60.
  CHECK(sweeps <= 26);
}

TEST_CASE("comparison: Holm's correction by hand, and each seed's scatter within two sizes") {
  // Three variants, two seeds at one size. a - b: -.1, -.3: mean -.2, t = 2, p = .2952 (Cauchy: 1 - 2 atan(2) / pi).
  const auto result = compare_all({run("a", "1", 1.0), run("b", "1", 1.1), run("c", "1", 1.0), run("a", "2", 1.0),
                                   run("b", "2", 1.3), run("c", "2", 1.0)});
  CHECK_THAT(result[0].over_sizes->p_value(), WithinAbs(0.2951672353, 1e-9));
  // a - c is 0 without scatter: p = 1. Both others have the smallest p, which counts three times.
  CHECK_THAT(*result[0].corrected_p, WithinAbs(3 * 0.2951672353, 1e-9));
  CHECK(*result[1].corrected_p == 1);
  CHECK(result[0].comparisons == 3);
  CHECK_THAT(result[0].corrected_level(), WithinAbs(1 - 0.05 / 3, 1e-15));
}
