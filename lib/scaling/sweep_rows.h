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

/// Names of the variants; one that occurs with several option sets gets those options behind its name in which the
/// sets differ: `sliding_window window=16`. Empty for a row without one. @param rows  checked [R]
std::vector<std::string> variant_labels(const std::vector<Json>& rows);

/// A config without its seed: equal for runs of one cell.
std::string cell_of(Json config);

/// The rows as compare_all takes them. One without a config has an empty key and takes no part. [R]
/// @param rows  checked [R]  @param labels  their variants [R]
std::vector<PairedRun> paired_runs(const std::vector<Json>& rows, const std::vector<std::string>& labels);

/// @throws as read_result_rows, and DataError for values that no run can have
SweepRows read_sweep_rows(const std::filesystem::path& folder, const ColumnMap& columns = {});

}  // namespace attnscale
