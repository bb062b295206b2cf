#include "scaling/variant_report.h"

#include <cmath>
#include <random>
#include <sstream>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;

namespace {

Json variant_row(const std::string& variant, int width, int64_t tokens, int seed, double rate, double loss,
                 double params_factor = 1) {
  const double params = 12.0 * width * width;
  Json row = {{"status", "done"}, {"loss", loss}, {"seed", seed}, {"tokens", tokens}};
  row["params"] = std::round(params * params_factor);
  row["id"] = variant + std::to_string(width) + "-" + std::to_string(tokens) + "-" + std::to_string(seed) + "-" +
              std::to_string(rate);
  row["config"] = {{"model", {{"depth", 1}, {"model_dim", width}}},
                   {"attention", {{"variant", variant}}},
                   {"train", {{"steps", tokens / 1000}, {"seed", seed}, {"learning_rate", rate}}}};
  return row;
}

double loss_at(int width, int64_t tokens) {
  return 1.7 + 11 * std::pow(12.0 * width * width, -0.5) + 400 * std::pow(static_cast<double>(tokens), -0.6);
}

/// 3 widths x 3 token counts x 3 seeds x 2 variants; `linear` is worse by `gap`; each has `rates`.
std::string variant_sweep(double gap, double params_factor = 1) {
  std::mt19937_64 random(4);
  std::normal_distribution<double> noise(0, 0.003);
  std::string text;
  for (const char* variant : {"softmax", "linear"})
    for (const int width : {8, 16, 32})
      for (const int64_t tokens : {100000, 400000, 1600000})
        for (int seed = 0; seed < 3; ++seed) {
          const bool is_linear = variant == std::string("linear");
          const double loss = loss_at(width, tokens) + noise(random) + (is_linear ? gap : 0.0);
          text += variant_row(variant, width, tokens, seed, 0.01, loss, is_linear ? params_factor : 1).dump() + "\n";
        }
  return text;
}

/// `flops` is 6 N D.
std::string with_flops(const std::string& rows) {
  std::string text;
  std::istringstream lines(rows);
  for (std::string line; std::getline(lines, line);) {
    Json row = Json::parse(line);
    row["flops"] = 6 * row["params"].get<double>() * row["tokens"].get<double>();
    text += row.dump() + "\n";
  }
  return text;
}

Json report_of(const std::string& rows) {
  TemporaryFolder folder;
  folder.write("results.jsonl", rows);
  return variant_report(folder.path());
}

}  // namespace

TEST_CASE("seeds_needed: approaches the normal rule for many sizes, and is the fewest that suffice") {
  // (1.96 + .8416)^2 (s / d)^2 / sizes = 7.849 * 100 / 10 = 78.5 seeds; Student's quantiles hardly matter at 780
  // degrees.
  const int seeds = seeds_needed(0.1, 1.0, 10, 0.95);
  CHECK(seeds >= 78);
  CHECK(seeds <= 80);
  CHECK(seeds_needed(1.0, 0.01, 1, 0.95) == 2);
  CHECK(seeds_needed(1e-9, 1.0, 1, 0.95) == 0);
}

TEST_CASE("variant_report: names the better variant, by how much, and what that is worth in compute") {
  const auto report = report_of(variant_sweep(0.05));
  REQUIRE(report["comparisons"].size() == 1);
  const auto& entry = report["comparisons"][0];
  CHECK_THAT(entry["sentence"].get<std::string>(),
             ContainsSubstring("softmax is better than linear by 0.0") && ContainsSubstring("x the compute"));
  CHECK(entry["matched_parameters"] == true);
  const auto& multiplier = entry["compute_multiplier"];
  CHECK(multiplier["value"].get<double>() > 1);
  CHECK(multiplier["interval"][0].get<double>() < multiplier["value"].get<double>());
  CHECK(multiplier["interval"][1].get<double>() > multiplier["value"].get<double>());
  CHECK_THAT(variant_text(report), ContainsSubstring("note: all runs have one learning rate") &&
                                       ContainsSubstring("  1  softmax            a\n") &&
                                       ContainsSubstring("  2  linear    +0.05") && ContainsSubstring("  b\n"));
}

TEST_CASE("variant_report: equal variants are not shown to differ, and how many seeds would tell is said") {
  const auto report = report_of(variant_sweep(0));
  const auto& entry = report["comparisons"][0];
  CHECK_THAT(entry["sentence"].get<std::string>(), ContainsSubstring("are not shown to differ"));
  CHECK(entry["seeds_needed"].get<int>() > 3);
}

TEST_CASE("variant_report: parameters that are not matched are said") {
  const auto report = report_of(variant_sweep(0.05, 1.2));
  CHECK(report["comparisons"][0]["matched_parameters"] == false);
  CHECK_THAT(report["comparisons"][0]["sentence"].get<std::string>(), ContainsSubstring("parameters are NOT matched"));
}

TEST_CASE("variant_report: each variant is taken at its own best rate, and a best rate at the edge is no evidence") {
  // softmax likes .01, linear .03; at any common rate softmax would look worse by .1 or better by .1.
  const auto rows_with = [](double linear_best) {
    std::string text;
    for (const char* variant : {"softmax", "linear"})
      for (const int width : {8, 16})
        for (int seed = 0; seed < 2; ++seed)
          for (const double rate : {0.003, 0.01, 0.03, 0.1}) {
            const double best = variant == std::string("linear") ? linear_best : 0.01;
            const double loss = loss_at(width, 100000) + 0.1 * std::abs(std::log(rate / best)) +
                                0.001 * std::sin(seed + width + std::string(variant).size());
            text += variant_row(variant, width, 100000, seed, rate, loss).dump() + "\n";
          }
    return text;
  };
  const auto inside = report_of(rows_with(0.03));
  CHECK(inside["learning_rate"]["swept"] == true);
  CHECK(inside["comparisons"][0]["pairs"] == 4);
  CHECK(std::abs(inside["comparisons"][0]["mean_difference"].get<double>()) < 0.003);
  const auto edge = report_of(rows_with(0.1));
  CHECK_THAT(edge["comparisons"][0]["sentence"].get<std::string>(),
             ContainsSubstring("no evidence") && ContainsSubstring("linear (0.1) is at the end"));
}

TEST_CASE("variant_report: the note on single seeds is for pairs that have one; variants without a pair lack sizes") {
  const auto text_of = [](int linear_width, int seeds) {
    std::string rows;
    for (int seed = 0; seed < seeds; ++seed)
      for (const int width : {8, 16}) {
        rows += variant_row("softmax", width, 100000, seed, 0.01, loss_at(width, 100000)).dump() + "\n";
        rows +=
            variant_row("linear", width + linear_width - 8, 100000, seed, 0.01, loss_at(width, 100000)).dump() + "\n";
      }
    return variant_text(report_of(rows));
  };
  CHECK_THAT(text_of(8, 1), ContainsSubstring("one seed per size"));
  CHECK_THAT(text_of(8, 2), !ContainsSubstring("one seed per size"));
  CHECK_THAT(text_of(64, 2), ContainsSubstring("too few pairs (0)") && !ContainsSubstring("one seed per size"));
  CHECK_THAT(text_of(64, 1), !ContainsSubstring("one seed per size"));
}

TEST_CASE("variant_report: runs matched by another path than the feed-forward width are pairs, as plan.json tells") {
  TemporaryFolder folder;
  std::string rows;
  Json plan = {{"schema", "attnscale.plan/1"}, {"runs", Json::array()}};
  for (const int depth : {1, 2})
    for (int seed = 0; seed < 2; ++seed)
      for (const char* variant : {"softmax", "sliding_window"}) {
        const bool is_window = variant == std::string("sliding_window");
        const int width = is_window ? 60 + depth : 64;
        auto row = variant_row(variant, width, 100000, seed, 0.01, 2.0 + 0.01 * seed * depth);
        row["id"] = variant + std::to_string(depth) + std::to_string(seed);
        row["config"]["model"]["depth"] = depth;
        row["config"]["model"]["ffn_dim"] = 4 * width;
        if (is_window) row["config"]["attention"]["window"] = 8 * depth;
        plan["runs"].push_back({{"id", row["id"]}, {"matched", {{"moved", {"model.model_dim", "model.ffn_dim"}}}}});
        if (is_window) plan["runs"].back()["matched"]["moved"].push_back("attention.window");
        rows += row.dump() + "\n";
      }
  folder.write("results.jsonl", rows);
  folder.write("plan.json", plan.dump());
  const auto report = variant_report(folder.path());
  REQUIRE(report["comparisons"].size() == 1);  // windows of 8 and 16 are one variant
  CHECK(report["comparisons"][0]["pairs"] == 4);
  CHECK(report["comparisons"][0]["cells"] == 2);
  // Without the plan nobody knows: widths that differ are sizes that differ.
  folder.write("plan.json", "{");
  CHECK(variant_report(folder.path())["comparisons"].size() == 3);
}

TEST_CASE("variant_report: one variant cannot be compared") {
  CHECK_THROWS_AS(report_of(variant_row("softmax", 8, 1000, 0, 0.1, 2.0).dump() + "\n"), DataError);
}

TEST_CASE("variant_report: with labels shuffled it finds nothing, and says that labels are shuffled") {
  TemporaryFolder folder;
  folder.write("results.jsonl", variant_sweep(0.05));
  CHECK(variant_report(folder.path())["comparisons"][0]["corrected_p"].get<double>() < 0.05);
  const auto report = variant_report(folder.path(), {}, {.at = {}, .shuffle_labels = true, .seed = 2});
  CHECK_THAT(report["comparisons"][0]["sentence"].get<std::string>(), ContainsSubstring("not shown to differ"));
  CHECK(report["shuffled"]["share_shown"].get<double>() <= 0.1);
  CHECK_THAT(variant_text(report), ContainsSubstring("LABELS ARE SHUFFLED"));
}

TEST_CASE(
    "variant_report: exponents of two variants of one law are not shown to differ, with an interval that says so") {
  const auto report = report_of(variant_sweep(0.05));
  const auto& exponents = report["comparisons"][0]["exponent_difference"];
  for (const char* name : {"alpha", "beta"}) {
    INFO(exponents.dump());
    REQUIRE(exponents.contains(name));
    const auto& interval = exponents[name]["interval"];
    const double value = exponents[name]["value"], half = 0.5 * (interval[1].get<double>() - interval[0].get<double>());
    CHECK(interval[0].get<double>() < value);
    CHECK(value < interval[1].get<double>());
    // One draw: twice the interval holds 0 in all but one of 10,000.
    CHECK(std::abs(value) < 2 * half);
    CHECK(half < 0.1);
    // One comparison needs no correction.
    CHECK_THAT(exponents[name]["corrected_interval"][1].get<double>(), WithinAbs(interval[1].get<double>(), 1e-6));
  }
}

TEST_CASE("variant_report: at matched parameters the sentence does not complain of unmatched ones") {
  TemporaryFolder folder;
  folder.write("results.jsonl", variant_sweep(0.05, 1.3));
  const auto plain = variant_report(folder.path())["comparisons"][0];
  CHECK_THAT(plain["sentence"].get<std::string>(), ContainsSubstring("NOT matched"));
  const auto report = variant_report(folder.path(), {}, {.at = "parameters"});
  CHECK(report["at"] == "parameters");
  const auto& entry = report["comparisons"][0];
  CHECK(entry["sentence"].get<std::string>().find("NOT matched") == std::string::npos);
  // Frontiers at equal tokens of compute have no parameters of their own to complain of.
  folder.write("results.jsonl", with_flops(variant_sweep(0.05, 1.3)));
  const auto at_flops = variant_report(folder.path(), {}, {.at = "flops"})["comparisons"][0];
  CHECK_FALSE(at_flops.contains("matched_parameters"));
  CHECK_THAT(at_flops["sentence"].get<std::string>(), !ContainsSubstring("matched"));
  // Loss is read at equal parameters: linear has 1.3 times as many, so that it is worse by more than the gap.
  CHECK(entry["mean_difference"].get<double>() < -0.05);
}

TEST_CASE("variant_report: with more than ten pairs sentences are for who asks") {
  std::string rows;
  const char* names[] = {"softmax", "linear", "retention", "delta", "performer", "taylor"};
  for (int v = 0; v < 6; ++v)
    for (const int width : {8, 16})
      for (int seed = 0; seed < 2; ++seed)
        rows += variant_row(names[v], width, 100000, seed, 0.01, loss_at(width, 100000) + 0.1 * v + 0.001 * seed * v)
                    .dump() +
                "\n";
  const auto report = report_of(rows);
  REQUIRE(report["comparisons"].size() == 15);
  CHECK_THAT(variant_text(report),
             ContainsSubstring("each of the 15 pairs: --pairs") && !ContainsSubstring("softmax and"));
  CHECK_THAT(variant_text(report, true),
             !ContainsSubstring("--pairs") && ContainsSubstring("performer is better than taylor"));
  CHECK(report["ranking"][5]["variant"] == "taylor");
}

TEST_CASE(
    "variant_report: laws that convert losses to compute are those of the best rate, not of all that were swept") {
  // Rates beside the best lose up to a nat at the smallest sizes only: a law of all rates would be much steeper.
  std::string swept, best;
  std::mt19937_64 random(7);
  std::normal_distribution<double> noise(0, 0.001);
  for (const char* variant : {"softmax", "linear"})
    for (const int width : {8, 16, 32})
      for (const int64_t tokens : {100000, 400000, 1600000})
        for (int seed = 0; seed < 2; ++seed) {
          const double gap = variant == std::string("linear") ? 0.05 : 0.0;
          const double loss = loss_at(width, tokens) + gap + noise(random);
          const auto row = variant_row(variant, width, tokens, seed, 0.01, loss).dump() + "\n";
          best += row;
          swept += row;
          for (const double rate : {0.003, 0.03})
            swept += variant_row(variant, width, tokens, seed, rate, loss + 8.0 / width).dump() + "\n";
        }
  const auto of = [](const Json& report) { return report["comparisons"][0]["compute_multiplier"]; };
  const auto from_swept = of(report_of(swept)), from_best = of(report_of(best));
  CHECK(from_swept["law"] == "L(N,D) of linear");
  CHECK_THAT(from_swept["value"].get<double>(), WithinAbs(from_best["value"].get<double>(), 1e-9));
  CHECK_THAT(from_swept["E"].get<double>(), WithinAbs(from_best["E"].get<double>(), 1e-9));
}
