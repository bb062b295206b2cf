#pragma once

#include <optional>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include <fmt/format.h>

#include "report/claims.h"
#include "sample_sweep.h"

/// Runs that differ in what claims are about, and what a claim says of them.
namespace claim_samples {

using namespace attnscale;

struct One {
  std::string dtype = "float32";
  int depth = 2;
  double rate = 0.01;
  int seed = 0;
  std::optional<double> loss = {};  ///< nothing: diverged
};

inline Json row_of(const One& one) {
  Json row = {{"id", fmt::format("{}-{}-{}-{}", one.dtype, one.depth, one.rate, one.seed)},
              {"status", one.loss ? "done" : "diverged"},
              {"params", 1000},
              {"tokens", 1000}};
  if (one.loss) row["loss"] = *one.loss;
  row["config"] = {{"model", {{"depth", one.depth}, {"vocab_size", 8}}},
                   {"train", {{"dtype", one.dtype}, {"learning_rate", one.rate}, {"seed", one.seed}}}};
  return row;
}

inline void write_runs(const std::vector<One>& runs, const std::filesystem::path& folder) {
  std::vector<Json> rows;
  for (const auto& one : runs) rows.push_back(row_of(one));
  sample::write_rows(folder, rows);
}

inline Json verdict_on(const std::vector<One>& runs, const std::string& claims) {
  const ScratchFolder folder;
  write_runs(runs, folder.path);
  std::vector<Problem> problems;
  const auto read = read_claims(Json::parse(claims), problems);
  for (const auto& problem : problems) FAIL(problem.path << ": " << problem.message);
  return claims_report(RunTable::read(folder.path), read, "sample");
}

}  // namespace claim_samples
