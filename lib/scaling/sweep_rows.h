#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/comparison.h"
#include "scaling/table.h"

namespace attnscale {

/// The rows of a sweep's results.jsonl as the fits see them.
struct SweepRows {
  std::vector<Json> rows;        ///< the last row of each run id, in order of first appearance [R]
  std::vector<Point> points;     ///< with variant label and cell filled in [R]
  std::vector<PairedRun> pairs;  ///< for the comparison [R]
  std::optional<Json> truth;     ///< where all finished rows agree on it
  bool paired = false;           ///< points' losses are true Bayes loss + paired excess
  std::vector<std::string> notes;
};

/// @throws DataError, IoError
SweepRows read_sweep_rows(const std::filesystem::path& folder, const ColumnMap& columns = {});

}  // namespace attnscale
