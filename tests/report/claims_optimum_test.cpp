// Claims about where a loss is least: the shift of an optimum, in octaves.

#include <cmath>
#include <random>

#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "claim_samples.h"
#include "scaling/optimum.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;
using claim_samples::One;
using claim_samples::verdict_on;
using claim_samples::write_runs;

namespace {

const std::string moves_down = R"([{"claim": "moves down", "measure": "loss", "optimum": "train.learning_rate",
                                    "of": "depth == 8", "against": "depth == 2", "below": -1}])";

/// Rates 2^-12 to 2^-4. @param best  log2 of the best one, by depth and seed
template <class Best>
std::vector<One> parabolas(int seeds, const Best& best) {
  std::vector<One> runs;
  for (int seed = 0; seed < seeds; ++seed)
    for (const int depth : {2, 8})
      for (int octave = -12; octave <= -4; ++octave) {
        const double away = octave - best(depth, seed);
        runs.push_back({.depth = depth, .rate = std::exp2(octave), .seed = seed, .loss = 2 + 0.1 * away * away});
      }
  return runs;
}

}  // namespace

TEST_CASE("claims: a shift of parabolas is that of their vertices, with Student's interval over seeds") {
  // Means of parabolas of one curvature have the mean vertex, so that pseudo-values are the seeds' own shifts:
  // -2.3, -2.4 and -2.5, with deviation 0.1.
  const auto best = [](int depth, int seed) { return depth == 2 ? -6.2 + 0.3 * seed : -8.5 + 0.2 * seed; };
  const auto claim = verdict_on(parabolas(3, best), moves_down)["claims"][0];
  for (int seed = 0; seed < 3; ++seed)
    CHECK_THAT(claim["by_seed"][seed].get<double>(), WithinAbs(-2.3 - 0.1 * seed, 1e-9));
  CHECK_THAT(claim["estimate"].get<double>(), WithinAbs(-2.4, 1e-9));
  CHECK_THAT(claim["low"].get<double>(), WithinAbs(-2.6484, 1e-4));  // 4.303 x 0.1 / sqrt(3)
  CHECK(claim["verdict"] == "holds");
  CHECK(claim["notes"].empty());
}

TEST_CASE("claims: a shift is what `attnscale optimum` finds, interval and all") {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  auto runs = parabolas(4, [](int depth, int) { return depth == 2 ? -6.3 : -8.8; });
  for (auto& run : runs) run.loss = *run.loss + 0.03 * normal(random);
  const auto claim = verdict_on(runs, moves_down)["claims"][0];
  const ScratchFolder folder;
  write_runs(runs, folder.path);
  const auto octaves = optimum_report(folder.path, {.along = "model.depth"})["shifts"][0]["octaves"];
  for (const auto& [ours, theirs] : {std::pair("estimate", "value"), {"low", "low"}, {"high", "high"}})
    CHECK_THAT(claim[ours].get<double>(), WithinAbs(octaves[theirs].get<double>(), 1e-9));
}

TEST_CASE("claims: an optimum at an end of the swept values has no verdict, nor one beside runs that diverged") {
  const auto at_end =
      verdict_on(parabolas(3, [](int depth, int) { return depth == 2 ? -6.0 : -14.0; }), moves_down)["claims"][0];
  CHECK(at_end["verdict"] == "undecided");
  CHECK_THAT(at_end["notes"].dump(),
             ContainsSubstring("train.learning_rate is best at an end of its swept values (0.000244") &&
                 ContainsSubstring("that far or further"));

  auto runs = parabolas(3, [](int depth, int seed) { return depth == 2 ? -6.0 : -8.0 - 0.1 * seed; });
  for (auto& run : runs)
    if (run.depth == 8 && run.rate == std::exp2(-7) && run.seed == 1) run.loss.reset();
  const auto beside = verdict_on(runs, moves_down)["claims"][0];
  CHECK(beside["verdict"] == "undecided");
  CHECK_THAT(beside["notes"].dump(), ContainsSubstring("say what by"));
  const auto counted = verdict_on(runs, R"json([{"claim": "a", "measure": "loss", "optimum": "train.learning_rate",
      "of": "depth == 8", "against": "depth == 2", "diverged": "log(vocab_size)", "below": -1}])json")["claims"][0];
  CHECK(counted["verdict"] == "holds");
  CHECK(counted["diverged"] == 1);
}

TEST_CASE("claims: seeds without a run at every value take no part in an optimum") {
  auto runs = parabolas(4, [](int depth, int seed) { return (depth == 2 ? -6.0 : -8.5) + 0.1 * seed * (depth == 8); });
  std::erase_if(runs, [](const One& run) { return run.seed == 3 && run.rate == std::exp2(-5); });
  const auto claim = verdict_on(runs, moves_down)["claims"][0];
  CHECK(claim["seeds"] == Json({0, 1, 2}));
  CHECK_THAT(claim["estimate"].get<double>(), WithinAbs(-2.4, 1e-9));
}

TEST_CASE("claims: an optimum needs three values above 0") {
  const auto refused = [](const std::vector<One>& runs, const std::string& message) {
    const auto claim = verdict_on(runs, moves_down)["claims"][0];
    CHECK(claim["verdict"] == "refused");
    CHECK_THAT(claim["notes"][0].get<std::string>(), ContainsSubstring(message));
  };
  auto runs = parabolas(2, [](int, int) { return -6.0; });
  std::erase_if(runs, [](const One& run) { return run.rate < 0.03; });
  refused(runs, "claims[0]: optimum: train.learning_rate has 2 values in a setting");
  for (auto& run : runs) run.rate = 0.01;
  refused(runs, "optimum: train.learning_rate is the same in all runs; leave it out");
}

TEST_CASE("claims: as Markdown they are a table, with the rerun beside and what is to be known below") {
  auto runs = parabolas(3, [](int depth, int seed) { return depth == 2 ? -6.2 + 0.3 * seed : -8.5 + 0.2 * seed; });
  const auto report = verdict_on(runs, moves_down);
  CHECK(claims_markdown(report) ==
        "Intervals hold together in 95 % of sweeps.\n\n"
        "| claim | expected | number | verdict |\n|---|---|---|---|\n"
        "| moves down | below -1 | -2.400 [-2.648, -2.152] | holds |\n");
  for (auto& run : runs) {
    run.seed += 10;
    if (run.depth == 8 && run.seed == 11 && run.rate == std::exp2(-8)) run.loss.reset();
  }
  const auto both = claims_markdown(with_rerun(report, verdict_on(runs, moves_down)));
  CHECK_THAT(both, ContainsSubstring("| verdict | other seeds | verdict |\n|---|---|---|---|---|---|\n") &&
                       ContainsSubstring("| -2.400 [-2.648, -2.152] | holds | ") && ContainsSubstring("| undecided") &&
                       ContainsSubstring("- moves down, with the other seeds: 1 of 54 runs diverged\n") &&
                       ContainsSubstring("\nThe other seeds are 10 to 12: 0 of 1 verdicts are the same.\n"));
}
