#include "scaling/ranking.h"

#include <map>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <fmt/format.h>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;

namespace {

/// Four sizes with two seeds each; what a variant's runs add to a size's loss scatters by `noise`.
std::vector<PairedRun> runs_with(const std::map<std::string, double>& means, double noise) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal(0, noise);
  std::vector<PairedRun> runs;
  for (const auto& [variant, mean] : means)
    for (int size = 0; size < 4; ++size)
      for (int seed = 0; seed < 2; ++seed)
        runs.push_back({.variant = variant,
                        .key = fmt::format("{} {}", size, seed),
                        .done = true,
                        .loss = 3 - 0.1 * size + mean + normal(random),
                        .cell = fmt::format("{}", size)});
  return runs;
}

}  // namespace

TEST_CASE("ranking: variants stand from the best to the worst by their mean losses") {
  const auto ranking = rank_variants(compare_all(runs_with({{"a", 0.3}, {"b", 0}, {"c", 0.1}}, 0)), {});
  REQUIRE(ranking.size() == 3);
  CHECK(ranking[0].name == "b");
  CHECK(ranking[1].name == "c");
  CHECK_THAT(ranking[1].above_best, WithinAbs(0.1, 1e-12));
  CHECK_THAT(ranking[2].above_best, WithinAbs(0.3, 1e-12));
  // Without noise each differs from each.
  CHECK(ranking[0].groups == std::vector<std::string>{"a"});
  CHECK(ranking[2].groups == std::vector<std::string>{"c"});
}

TEST_CASE("ranking: two variants share a letter exactly where they are not shown to differ") {
  std::map<std::string, double> means;
  for (int v = 0; v < 12; ++v) means[fmt::format("v{}", v)] = 0.01 * v;
  for (const double noise : {0.002, 0.006, 0.02, 1.0}) {
    const auto comparisons = compare_all(runs_with(means, noise));
    const auto ranking = rank_variants(comparisons, {});
    std::map<std::string, std::set<std::string>> letters;
    for (const auto& each : ranking) letters[each.name] = {each.groups.begin(), each.groups.end()};
    int shown = 0;
    for (const auto& pair : comparisons) {
      std::set<std::string> common;
      for (const auto& letter : letters[pair.a])
        if (letters[pair.b].count(letter)) common.insert(letter);
      INFO(noise << " " << pair.a << " " << pair.b);
      CHECK(common.empty() == pair.shown());
      shown += pair.shown();
    }
    // The grades of noise make all kinds: some pairs, most, none.
    if (noise == 0.002) CHECK(shown > 20);
    if (noise == 1.0) CHECK(shown == 0);
  }
}

TEST_CASE("ranking: a variant that is no evidence stands last, without a letter, and moves nobody") {
  const auto comparisons = compare_all(runs_with({{"a", 0.3}, {"b", 0}, {"c", 0.1}}, 0));
  const auto ranking = rank_variants(comparisons, {"b"});
  REQUIRE(ranking.size() == 3);
  CHECK(ranking[0].name == "c");
  CHECK(ranking[2].name == "b");
  CHECK(ranking[2].groups.empty());
  CHECK_THAT(ranking[2].above_best, WithinAbs(-0.1, 1e-12));
  CHECK_THAT(ranking[1].above_best, WithinAbs(0.2, 1e-12));
  CHECK_THAT(ranking_text(ranking_json(ranking)),
             ContainsSubstring("  1  c            a\n") && ContainsSubstring("  3  b   -0.1000  no evidence"));
  CHECK(rank_variants(comparisons, {"a", "b", "c"}).empty());
}

TEST_CASE("ranking: variants without a common size have no order") {
  auto runs = runs_with({{"a", 0.3}, {"b", 0}}, 0);
  for (auto& run : runs)
    if (run.variant == "b") run.key += " elsewhere";
  CHECK(rank_variants(compare_all(runs), {}).empty());
}
