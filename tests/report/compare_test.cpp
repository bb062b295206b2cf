#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "report/compare.h"
#include "report/verdict.h"
#include "sample_sweep.h"

using namespace attnscale;
using Catch::Approx;

TEST_CASE("spread_of: three values by hand") {
  // mean 2, deviation 1, t(2) = 4.303: half width 4.303 / sqrt(3)
  const Spread spread = spread_of({1, 2, 3});
  CHECK(spread.mean == 2);
  CHECK(spread.deviation == 1);
  CHECK(spread.half_width == Approx(4.303 / std::sqrt(3.0)));
  CHECK(spread_of({5}).half_width == 0);
}

TEST_CASE("compare_variants: pairs agree in seed and size, and an unpaired run does not count") {
  sample::Folder folder;
  sample::Options options{.depths = {1, 2}, .widths = {16}, .seeds = {1, 2}, .one_diverged_one_failed = false};
  auto rows = sample::rows(options);
  // Differences window - softmax: depth 1: +.1, +.3; depth 2: +.2, +.2 ... by seed, whatever the level.
  const double loss[] = {2.0, 3.0, 1.5, 2.5, 2.1, 3.3, 1.7, 2.7};
  for (size_t i = 0; i < rows.size(); ++i) rows[i]["loss"] = loss[i];
  sample::write_rows(folder.path(), rows);
  const Comparison comparison = compare_variants(read_sweep(folder.path()));
  REQUIRE(comparison.summaries.size() == 1);
  const PairedSummary& summary = comparison.summaries.front();
  CHECK(summary.pairs == 4);
  CHECK(summary.sizes == 2);
  CHECK(summary.difference == Approx(0.2));
  // Variance of the mean over sizes: (.02/2 + 0/2) / 2^2 = .0025; two degrees of freedom.
  CHECK(*summary.half_width == Approx(4.303 * std::sqrt(0.01) / 2));
  CHECK_FALSE(summary.clear());

  rows.back()["seed"] = 9;  // no partner any more
  rows.back()["config"]["train"]["seed"] = 9;
  sample::write_rows(folder.path(), rows);
  CHECK(compare_variants(read_sweep(folder.path())).summaries.front().pairs == 3);
}

TEST_CASE("verdict: says when an interval does not cover the truth, and when one seed cannot tell") {
  sample::Folder folder;
  sample::write(folder.path(), {.seeds = {1}});
  Json scaling = sample::scaling({});
  scaling["fits"]["all"]["forms"]["L(N)"]["intervals"]["E"] = {1.72, 1.78};  // the truth is 1.7
  write_file_atomically(folder.path() / "scaling.json", scaling.dump());
  std::string text;
  for (const auto& sentence : verdict(read_sweep(folder.path()))) text += sentence;
  CHECK(text.find("does not cover") != std::string::npos);
  CHECK(text.find("nobody can say whether that is chance") != std::string::npos);
  CHECK(text.find("18 runs of 2 attention variants") != std::string::npos);
}
