#include "scaling/matched_runs.h"

#include <cmath>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;

namespace {

struct Rows {
  std::vector<Json> rows;
  std::vector<std::string> labels;
};

/// Loss a - .1 ln(flops) but for noise, at amounts of `first` 2^k; straight in ln flops.
void add(Rows& table, const std::string& variant, double first, double a, double noise, std::mt19937_64& random) {
  std::normal_distribution<double> normal(0, 1);
  for (int64_t seed = 0; seed < 3; ++seed)
    for (int k = 0; k < 6; ++k) {
      const double flops = first * std::pow(2.0, k);
      table.rows.push_back({{"flops", flops},
                            {"seed", seed},
                            {"loss", a - 0.1 * std::log(flops) + noise * normal(random)},
                            {"timing", {{"seconds", 2 * flops}}}});
      table.labels.push_back(variant);
    }
}

}  // namespace

TEST_CASE("matched_runs: at equal FLOPs the difference is that of the curves though no run has another's FLOPs") {
  std::mt19937_64 random(1);
  Rows table;
  add(table, "a", 1000, 3.0, 0, random);
  add(table, "b", 1300, 3.05, 0, random);
  const auto runs = runs_at_matched(table.rows, table.labels, "flops");
  const auto pairs = compare_all(runs);
  REQUIRE(pairs.size() == 1);
  REQUIRE(pairs[0].cells.size() == 1);
  CHECK(pairs[0].cells[0].differences.size() == 3);  // one for each seed
  for (const auto& cell : pairs[0].cells)
    for (const double difference : cell.differences) CHECK_THAT(difference, WithinAbs(-0.05, 1e-12));
  // Seconds are twice the FLOPs here: the same difference.
  CHECK_THAT(*compare_all(runs_at_matched(table.rows, table.labels, "seconds"))[0].difference, WithinAbs(-0.05, 1e-12));
}

TEST_CASE("matched_runs: a run that more compute made worse is no part of the frontier") {
  std::mt19937_64 random(1);
  Rows table;
  add(table, "a", 1000, 3.0, 0, random);
  add(table, "b", 1000, 3.0, 0, random);
  table.rows[3]["loss"] = 9.0;  // one run of a diverged a little
  const auto pairs = compare_all(runs_at_matched(table.rows, table.labels, "flops"));
  CHECK_THAT(*pairs[0].difference, WithinAbs(0, 1e-12));  // straight between its neighbours
}

TEST_CASE("matched_runs: ranges that do not meet, and rows without the quantity, are refused in words") {
  std::mt19937_64 random(1);
  Rows table;
  add(table, "a", 1000, 3.0, 0, random);
  add(table, "b", 1e6, 3.0, 0, random);
  REQUIRE_THROWS_AS(runs_at_matched(table.rows, table.labels, "flops"), DataError);
  try {
    runs_at_matched(table.rows, table.labels, "flops");
  } catch (const DataError& error) {
    CHECK_THAT(error.what(), ContainsSubstring("a 1e+03 to 3.2e+04") && ContainsSubstring("overlap"));
  }
  CHECK_THROWS_AS(runs_at_matched(table.rows, table.labels, "state_bytes"), DataError);
}

TEST_CASE("matched_runs: equal variants at matched FLOPs are called different about once in twenty times") {
  std::mt19937_64 random(5);
  int shown = 0;
  constexpr int sweeps = 400;
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    Rows table;
    add(table, "a", 1000, 3.0, 0.01, random);
    add(table, "b", 1250, 3.0, 0.01, random);
    shown += compare_all(runs_at_matched(table.rows, table.labels, "flops"))[0].shown();
  }
  // 5 % of 400 is 20; more than 36 once in 3,000 draws.
  CHECK(shown <= 36);
}

TEST_CASE("matched_runs: with shuffled labels nothing is found of a difference that is clear otherwise") {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal(0, 0.01);
  std::vector<PairedRun> runs;
  for (int size = 0; size < 8; ++size)
    for (int seed = 0; seed < 3; ++seed)
      for (const char* variant : {"a", "b", "c"})
        runs.push_back({.variant = variant,
                        .key = std::to_string(size) + " " + std::to_string(seed),
                        .done = true,
                        .loss = 2.0 + 0.1 * size + (variant[0] == 'c' ? 0.05 : 0.0) + normal(random),
                        .params = 1,
                        .cell = std::to_string(size)});
  const auto pairs = compare_all(runs);
  CHECK(pairs[1].shown());  // a against c
  const auto shuffled = with_shuffled_labels(runs, 0);
  double before = 0, after = 0;
  for (const auto& run : runs) before += run.loss;
  for (const auto& run : shuffled) after += run.loss;
  CHECK_THAT(after, WithinAbs(before, 1e-9));
  for (const auto& pair : compare_all(shuffled)) CHECK_FALSE(pair.shown());
  CHECK(share_shown_when_shuffled(runs, 7, 200) <= 0.09);  // 5 % but for chance: 18 of 200 once in 150 draws
}
