#include "scaling/scaling.h"

#include <cmath>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;

namespace {

constexpr double true_loss = 1.7, validation_offset = 0.03;

/// A row as the trainer writes it; the validation tokens' own Bayes loss is `validation_offset` too high.
Json result_row(const std::string& variant, int depth, int model_dim, int64_t tokens, int seed, double excess) {
  const int64_t params = 12LL * depth * model_dim * model_dim;
  Json row = {
      {"schema", "attnscale.result/1"}, {"status", "done"}, {"seed", seed}, {"params", params}, {"tokens", tokens}};
  row["id"] = variant + std::to_string(depth) + "-" + std::to_string(model_dim) + "-" + std::to_string(tokens) + "-" +
              std::to_string(seed);
  row["flops"] = 6 * params * tokens;
  row["parameters"] = {{"total", params}};
  row["loss"] = true_loss + validation_offset + excess;
  row["bayes_loss"] = true_loss + validation_offset;
  row["excess"] = excess;
  row["truth"] = {
      {"entropy_rate", true_loss}, {"bayes_loss", true_loss}, {"bayes_loss_error", 0}, {"derivation", "by hand"}};
  row["config"] = {{"model", {{"depth", depth}, {"model_dim", model_dim}}},
                   {"attention", {{"variant", variant}}},
                   {"data", {{"source", "zipf_memory"}}},
                   {"train", {{"steps", tokens / 1000}, {"seed", seed}}}};
  row["curve"] = {{"steps", {1, 2}}, {"tokens", {10, 20}}, {"flops", {100, 200}}, {"loss", {3, 2.5}}};
  return row;
}

/// 2 depths x 3 widths x 3 token counts x 3 seeds x 2 variants; `linear` is worse by `gap`.
std::string sweep_rows(double gap) {
  std::mt19937_64 random(2);
  std::normal_distribution<double> noise(0, 0.003);
  std::string text;
  for (const char* variant : {"softmax", "linear"})
    for (const int depth : {1, 2})
      for (const int model_dim : {8, 16, 32})
        for (const int64_t tokens : {100000, 400000, 1600000})
          for (int seed = 0; seed < 3; ++seed) {
            const double N = 12.0 * depth * model_dim * model_dim;
            const double excess = 11 * std::pow(N, -0.5) + 400 * std::pow(static_cast<double>(tokens), -0.6) +
                                  noise(random) + (variant == std::string("linear") ? gap : 0.0);
            text += result_row(variant, depth, model_dim, tokens, seed, excess).dump() + "\n";
          }
  return text;
}

const FitReportOptions quick_fit{.replicates = 60};

}  // namespace

TEST_CASE("scaling_of_sweep: points, curves, truth, fits per variant and the comparison come from results.jsonl") {
  TemporaryFolder folder;
  folder.write("results.jsonl", sweep_rows(0.05));
  const auto document = scaling_of_sweep(folder.path(), quick_fit);
  CHECK(document["schema"] == "attnscale.scaling/1");
  CHECK(document["sweep"] == folder.path().filename().string());
  CHECK(document["points"].size() == 108);
  CHECK(document["points"][0]["variant"] == "softmax");
  CHECK(document["points"][0]["depth"] == 1);
  CHECK(document["points"][0]["parameters"]["total"] == 768);
  CHECK(document["curves"].size() == 108);
  CHECK(document["curves"][0]["loss"] == Json::array({3, 2.5}));
  CHECK(document["truth"]["bayes_loss"] == true_loss);
  CHECK(document["fits"]["all"]["n_points"] == 108);
  CHECK(document["fits"]["softmax"]["n_points"] == 54);
  const auto& form = document["fits"]["softmax"]["forms"]["L(N,D)"];
  // The raw losses lie validation_offset above the truth; the paired excess takes that away.
  const auto& paired = document["fits"]["softmax"]["paired"]["forms"]["L(N,D)"];
  CHECK_THAT(form["E"].get<double>(), WithinAbs(true_loss + validation_offset, 0.02));
  CHECK_THAT(paired["E"].get<double>(), WithinAbs(true_loss, 0.02));
  CHECK(paired["truth"]["covered"] == true);
  CHECK(form["truth"]["paired"]["covered"] == true);
  CHECK_THAT(document["truth"]["validation"]["deviation"].get<double>(), WithinAbs(validation_offset, 1e-12));
  CHECK_THAT(document["notes"][0].get<std::string>(), ContainsSubstring("standard error is not recorded"));
  REQUIRE(document["comparison"].size() == 1);
  CHECK(document["comparison"][0]["pairs"] == 54);
  // 54 differences of two noises of .003: standard error .0006.
  CHECK_THAT(document["comparison"][0]["mean_difference"].get<double>(), WithinAbs(-0.05, 0.0025));
  CHECK_THAT(document["comparison"][0]["verdict"].get<std::string>(), ContainsSubstring("softmax lower by 0.0"));
}

TEST_CASE("scaling_of_sweep: without a truth the raw losses are fitted and no truth stands beside them") {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 5; ++i) {
    auto row = result_row("softmax", 1, 8 << i, 100000, 0, std::pow(4.0, -i));
    for (const char* key : {"truth", "excess", "bayes_loss"}) row.erase(key);
    text += row.dump() + "\n";
  }
  folder.write("results.jsonl", text);
  const auto document = scaling_of_sweep(folder.path(), quick_fit);
  CHECK_FALSE(document.contains("truth"));
  // Excess 4^-i at N = 768 4^i is 768 N^-1 above 1.73.
  const auto& form = document["fits"]["all"]["forms"]["L(N)"];
  CHECK_THAT(form["E"].get<double>(), WithinAbs(true_loss + validation_offset, 1e-6));
  CHECK_FALSE(form.contains("truth"));
  CHECK_FALSE(document["fits"]["all"]["forms"].contains("L(N,D)"));
}

TEST_CASE("scaling_of_sweep: a variant with several option sets is split by the options that differ") {
  TemporaryFolder folder;
  std::string text;
  for (const int window : {8, 32}) {
    auto row = result_row("sliding_window", 1, 8, 100000, 0, 0.1);
    row["id"] = "w" + std::to_string(window);
    row["config"]["attention"] = {{"variant", "sliding_window"}, {"window", window}, {"sinks", 0}};
    text += row.dump() + "\n";
  }
  folder.write("results.jsonl", text);
  const auto document = scaling_of_sweep(folder.path(), quick_fit);
  CHECK(document["points"][0]["variant"] == "sliding_window window=8");
  CHECK(document["comparison"][0]["b"] == "sliding_window window=32");
}

TEST_CASE("scaling_of_sweep: a run that was done again after a failure counts once, by its last row") {
  TemporaryFolder folder;
  auto failed = result_row("softmax", 1, 8, 100000, 0, 0.1);
  failed["status"] = "failed";
  failed.erase("loss");
  folder.write("results.jsonl", failed.dump() + "\n" + result_row("softmax", 1, 8, 100000, 0, 0.1).dump() + "\n");
  const auto document = scaling_of_sweep(folder.path(), quick_fit);
  REQUIRE(document["points"].size() == 1);
  CHECK(document["points"][0]["status"] == "done");
}

TEST_CASE("fit_of_path: a folder gives the fits of all and of each variant; a named loss column is taken as it is") {
  TemporaryFolder folder;
  folder.write("results.jsonl", sweep_rows(0));
  const auto report = fit_of_path(folder.path(), {}, quick_fit);
  CHECK(report["forms"].contains("L(N,D)"));
  CHECK(report["variants"].contains("linear"));
  CHECK_THAT(fit_text_of_path(report),
             ContainsSubstring("--- softmax ---") && ContainsSubstring("irreducible loss: fitted"));
  CHECK_THAT(report["forms"]["L(N,D)"]["E"].get<double>() - report["paired"]["forms"]["L(N,D)"]["E"].get<double>(),
             WithinAbs(validation_offset, 0.01));
  CHECK_FALSE(fit_of_path(folder.path(), ColumnMap::parse("L=loss"), quick_fit).contains("paired"));
  CHECK_THROWS_AS(fit_of_path(folder.path() / "none", {}, quick_fit), IoError);
}

TEST_CASE(
    "scaling_of_sweep: the validation tokens' Bayes loss is held against its standard error where rows have one") {
  const auto note_of = [](double standard_error) {
    TemporaryFolder folder;
    std::string text;
    for (int i = 0; i < 5; ++i) {
      auto row = result_row("softmax", 1, 8 << i, 100000, 0, std::pow(4.0, -i));
      row["bayes_loss_error"] = standard_error;
      text += row.dump() + "\n";
    }
    folder.write("results.jsonl", text);
    const auto document = scaling_of_sweep(folder.path(), quick_fit);
    CHECK(document["truth"]["validation"]["standard_error"] == standard_error);
    CHECK(document["fits"]["all"]["forms"]["L(N)"]["truth"]["validation_error"] == standard_error);
    return document["notes"][0].get<std::string>();
  };
  CHECK_THAT(note_of(0.02), ContainsSubstring("+0.03 from the true 1.7 or 1.5 standard errors, as chance allows"));
  CHECK_THAT(note_of(0.005), ContainsSubstring("MORE THAN CHANCE EXPLAINS"));
}

TEST_CASE("scaling_of_sweep: a flagged run is in no fit and no pair, and the document keeps its flags") {
  TemporaryFolder folder;
  std::string text;
  for (const char* variant : {"softmax", "linear"})
    for (int i = 0; i < 5; ++i) {
      auto row = result_row(variant, 1, 8 << i, 100000, 0, std::pow(4.0, -i));
      if (i == 2 && variant == std::string("linear")) row["flags"] = {"finite divergence"};
      text += row.dump() + "\n";
    }
  folder.write("results.jsonl", text);
  const auto document = scaling_of_sweep(folder.path(), quick_fit);
  CHECK(document["fits"]["all"]["n_points"] == 9);
  CHECK(document["fits"]["linear"]["n_points"] == 4);
  CHECK(document["points"][7]["flags"][0] == "finite divergence");
  CHECK(document["comparison"][0]["lost_pairs"] == 1);
  auto keeping = quick_fit;
  keeping.keep_flagged = true;
  CHECK(scaling_of_sweep(folder.path(), keeping)["comparison"][0]["pairs"] == 5);
}
