#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "report/compare.h"
#include "report/verdict.h"
#include "sample_sweep.h"
#include "scaling/scaling.h"

using namespace attnscale;
using Catch::Approx;

TEST_CASE("report: the differences it shows are those that scaling.json holds, reference second") {
  ScratchFolder folder;
  sample::Options options{.depths = {1, 2}, .widths = {16}, .seeds = {1, 2}, .one_diverged_one_failed = false};
  auto rows = sample::rows(options);
  // Differences window - softmax: depth 1: +.1, +.3; depth 2: +.24, +.24 by seed, whatever the level.
  const double loss[] = {2.0, 3.0, 1.5, 2.5, 2.1, 3.3, 1.74, 2.74};
  for (size_t i = 0; i < rows.size(); ++i) rows[i]["loss"] = loss[i];
  sample::write_rows(folder.path, rows);
  const auto comparison = compare_with_reference(read_sweep(folder.path));
  REQUIRE(comparison.summaries.size() == 1);
  const PairComparison& summary = comparison.summaries.front();
  CHECK(summary.a == "sliding_window");
  CHECK(summary.b == "softmax");
  CHECK(summary.pairs == 4);
  CHECK(summary.cells.size() == 2);
  CHECK(*summary.difference == Approx(0.22));
  // Pooled over seeds: squares .02 with two degrees of freedom, so variance .01, of a mean of four .01 / 4; and
  // t(2) = 4.302653.
  const auto interval = summary.at_these_sizes->interval(0.95);
  CHECK(interval.high - interval.low == Approx(2 * 4.302653 * std::sqrt(0.01 / 4)));
  CHECK_FALSE(summary.shown());
  const Json document = scaling_of_sweep(folder.path, {.replicates = 0})["comparison"][0];
  CHECK(document["mean_difference"].get<double>() == Approx(-*summary.difference));
  CHECK(document["at_these_sizes"]["interval"][1].get<double>() == Approx(-interval.low));

  rows.back()["seed"] = 9;  // no partner any more
  rows.back()["config"]["train"]["seed"] = 9;
  sample::write_rows(folder.path, rows);
  CHECK(compare_with_reference(read_sweep(folder.path)).summaries.front().pairs == 3);
}

TEST_CASE("verdict: says when an interval does not cover the truth, and when one seed cannot tell") {
  ScratchFolder folder;
  sample::write(folder.path, {.depths = {1}, .widths = {16}, .seeds = {1}, .one_diverged_one_failed = false});
  Json scaling = sample::scaling({});
  scaling["fits"]["all"]["forms"]["L(N)"]["intervals"]["E"] = {1.72, 1.78};  // the truth is 1.7
  write_file_atomically(folder.path / "scaling.json", scaling.dump());
  std::string text;
  for (const auto& sentence : verdict(read_sweep(folder.path))) text += sentence;
  CHECK(text.find("does not cover") != std::string::npos);
  CHECK(text.find("nobody can say whether that is chance") != std::string::npos);
  CHECK(text.find("2 runs of 2 attention variants") != std::string::npos);
}
