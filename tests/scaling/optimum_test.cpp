#include "scaling/optimum.h"

#include <cmath>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <fmt/format.h>

#include "core/error.h"
#include "scaling/statistics.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;

namespace {

Json row_of(const std::string& optimizer, int width, double rate, int seed, std::optional<double> loss) {
  Json row = {{"schema", "attnscale.result/1"}, {"status", loss ? "done" : "diverged"}, {"seed", seed}};
  row["id"] = fmt::format("{}-{}-{}-{}", optimizer, width, rate, seed);
  row["params"] = 12 * width * width;
  row["tokens"] = 1000;
  row["flops"] = 1e9;
  if (loss) row["loss"] = *loss;
  row["config"] = {{"model", {{"model_dim", width}, {"vocab_size", 16}}},
                   {"attention", {{"variant", "softmax"}}},
                   {"train", {{"optimizer", optimizer}, {"learning_rate", rate}, {"seed", seed}}}};
  return row;
}

/// Least at `octave` = log2 of the rate.
double loss_at(double rate, double octave, double least) {
  return least + 0.05 * std::pow(std::log2(rate) - octave, 2);
}

constexpr double rates[] = {1.0 / 1024, 1.0 / 512, 1.0 / 256, 1.0 / 128, 1.0 / 64};

const Json& setting(const Json& report, size_t place) { return report["settings"][place]; }

}  // namespace

TEST_CASE("optimum: a parabola's vertex is found between the values, and its way along the width") {
  TemporaryFolder folder;
  std::string text;
  for (const int width : {32, 128})
    for (const double rate : rates)
      text += row_of("adamw", width, rate, 0, loss_at(rate, width == 32 ? -7.3 : -8.6, 2)).dump() + "\n";
  folder.write("results.jsonl", text);
  const auto report = optimum_report(folder.path(), {.along = "model.model_dim"});
  REQUIRE(report["settings"].size() == 2);
  CHECK_THAT(std::log2(setting(report, 0)["optimum"]["value"].get<double>()), WithinAbs(-7.3, 1e-12));
  CHECK_THAT(setting(report, 1)["loss"]["value"].get<double>(), WithinAbs(2, 1e-12));
  CHECK_THAT(report["shifts"][0]["octaves"]["value"].get<double>(), WithinAbs(-1.3, 1e-12));
  CHECK_FALSE(report["shifts"][0]["octaves"].contains("low"));
  CHECK_THAT(optimum_text(report), ContainsSubstring("moves by -1.30 octaves from model_dim 32 to 128") &&
                                       ContainsSubstring("one seed measures no chance"));
}

TEST_CASE("optimum: at an end of the swept values it is a bound, and no verdict is given") {
  TemporaryFolder folder;
  std::string text;
  for (const double rate : rates) {
    for (int seed = 0; seed < 3; ++seed) {
      text += row_of("adamw", 32, rate, seed, loss_at(rate, -8, 2) + 0.001 * seed).dump() + "\n";
      text += row_of("adamw", 64, rate, seed, loss_at(rate, -11, 1.9) + 0.001 * seed).dump() + "\n";
      text += row_of("sgd", 32, rate, seed, loss_at(rate, -4, 2.2) + 0.001 * seed).dump() + "\n";
    }
  }
  folder.write("results.jsonl", text);
  const auto report = optimum_report(folder.path(), {.along = "model.model_dim", .by = {"train.optimizer"}});
  REQUIRE(report["settings"].size() == 3);
  CHECK_FALSE(setting(report, 0).contains("edge"));
  CHECK(setting(report, 1)["edge"] == "high");
  CHECK(setting(report, 2)["edge"] == "low");
  REQUIRE(report["shifts"].size() == 1);
  CHECK(report["shifts"][0]["bounds"] == "at most");
  REQUIRE(report["differences"].size() == 1);
  CHECK_THAT(report["differences"][0]["verdict"].get<std::string>(),
             ContainsSubstring("no verdict: the least loss of optimizer = sgd stands at the high end"));
}

TEST_CASE("optimum: a value at which a run did not finish brackets the least, and counts as ln V in the sensitivity") {
  TemporaryFolder folder;
  std::string text;
  for (const double rate : rates)
    for (int seed = 0; seed < 3; ++seed)
      text += row_of("adamw", 32, rate, seed, rate > 0.01 ? std::nullopt : std::optional(loss_at(rate, -7, 2))).dump() +
              "\n";
  folder.write("results.jsonl", text);
  const auto report = optimum_report(folder.path(), {});
  const auto& found = setting(report, 0);
  CHECK_FALSE(found.contains("edge"));
  CHECK(found["not_finished"] == Json::array({1.0 / 64}));
  CHECK_FALSE(found["optimum"].contains("low"));
  CHECK(found["loss"].contains("low"));
  CHECK(report["notes"].size() == 1);
  CHECK_THAT(found["optimum"]["value"].get<double>(), WithinAbs(1.0 / 128, 1e-12));
  CHECK_THAT(found["sensitivity"]["value"].get<double>(),
             WithinAbs((0.05 * (9 + 4 + 1) + std::log(16.0) - 2) / 5, 1e-12));
}

TEST_CASE("optimum: with shifts common to a seed's runs, the jackknife is Student's interval of their mean") {
  TemporaryFolder folder;
  const std::vector<double> offsets = {0.01, -0.02, 0.015, 0.003};
  std::string text;
  for (const double rate : rates)
    for (size_t seed = 0; seed < offsets.size(); ++seed) {
      text += row_of("adamw", 32, rate, static_cast<int>(seed), loss_at(rate, -8.2, 2) + offsets[seed]).dump() + "\n";
      text +=
          row_of("lion", 32, rate, static_cast<int>(seed), loss_at(rate, -7.7, 2.1) + 2 * offsets[seed]).dump() + "\n";
    }
  folder.write("results.jsonl", text);
  const auto report = optimum_report(folder.path(), {.by = {"train.optimizer"}});
  const auto spread = spread_of(offsets);
  const auto& loss = setting(report, 0)["loss"];
  CHECK_THAT(loss["value"].get<double>(), WithinAbs(2 + spread.mean, 1e-12));
  CHECK_THAT(loss["high"].get<double>() - loss["value"].get<double>(), WithinAbs(spread.half_width, 1e-9));
  // Paired: the difference is -0.1 - offset.
  const auto& difference = report["differences"][0]["difference"];
  CHECK_THAT(difference["value"].get<double>(), WithinAbs(-0.1 - spread.mean, 1e-12));
  CHECK_THAT(difference["high"].get<double>() - difference["value"].get<double>(), WithinAbs(spread.half_width, 1e-9));
  CHECK_THAT(report["differences"][0]["verdict"].get<std::string>(),
             ContainsSubstring("optimizer = adamw is better than optimizer = lion by 0.102"));
  CHECK(report["differences"][0]["level"] == 0.95);
  // Three settings are three differences, each at the level at which they hold together.
  for (const double rate : rates)
    for (size_t seed = 0; seed < offsets.size(); ++seed)
      text += row_of("sgd", 32, rate, static_cast<int>(seed), loss_at(rate, -7.5, 2.2) + offsets[seed]).dump() + "\n";
  folder.write("results.jsonl", text);
  const auto three = optimum_report(folder.path(), {.by = {"train.optimizer"}})["differences"];
  REQUIRE(three.size() == 3);
  for (const auto& each : three) CHECK_THAT(each["level"].get<double>(), WithinAbs(1 - 0.05 / 3, 1e-12));
}

TEST_CASE("optimum: intervals of the optimum and of differences cover the truth as often as they say") {
  std::mt19937_64 random(5);
  std::normal_distribution<double> noise(0, 0.004);
  int octave_covered = 0, difference_covered = 0;
  constexpr int sweeps = 200;
  for (int i = 0; i < sweeps; ++i) {
    TemporaryFolder folder;
    std::string text;
    for (const double rate : rates)
      for (int seed = 0; seed < 5; ++seed) {
        text += row_of("adamw", 32, rate, seed, loss_at(rate, -8.2, 2) + noise(random)).dump() + "\n";
        text += row_of("lion", 32, rate, seed, loss_at(rate, -7.9, 2.01) + noise(random)).dump() + "\n";
      }
    folder.write("results.jsonl", text);
    const auto report = optimum_report(folder.path(), {.by = {"train.optimizer"}});
    const auto covers = [](const Json& number, double truth) {
      return number["low"].get<double>() <= truth && truth <= number["high"].get<double>();
    };
    octave_covered += covers(setting(report, 0)["optimum"], std::exp2(-8.2));
    difference_covered += covers(report["differences"][0]["difference"], -0.01);
  }
  // 190 of 200 are nominal; three standard deviations of a binomial are 9.
  INFO(octave_covered << " and " << difference_covered << " of " << sweeps);
  CHECK(octave_covered >= 181);
  CHECK(difference_covered >= 181);
  CHECK(octave_covered <= 199);
  CHECK(difference_covered <= 199);
}

TEST_CASE("optimum: what cannot be asked is refused with the reason") {
  TemporaryFolder folder;
  std::string text;
  for (const double rate : rates)
    for (const int width : {32, 64}) text += row_of("adamw", width, rate, 0, loss_at(rate, -8, 2)).dump() + "\n";
  folder.write("results.jsonl", text);
  const auto message = [&](const OptimumQuestion& question) {
    try {
      optimum_report(folder.path(), question);
      return std::string("no error");
    } catch (const Error& error) {
      return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
  };
  CHECK_THAT(message({}), ContainsSubstring("differ in model.model_dim would count as one setting"));
  CHECK_THAT(message({.of = "train.learning_rat"}),
             ContainsSubstring("2: --of train.learning_rat: no run has it; did you mean \"train.learning_rate\"?"));
  CHECK_THAT(message({.along = "x"}), ContainsSubstring("2: --along x: no run has it; see the paths"));
  CHECK_THAT(message({.of = "train.optimizer"}),
             ContainsSubstring("65: --of") && ContainsSubstring("expected a number above 0"));
  CHECK_THAT(message({.of = "model.model_dim", .by = {"train.learning_rate"}}), ContainsSubstring("needs at least 3"));
}
