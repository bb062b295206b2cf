#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/comparison.h"
#include "scaling/table.h"

namespace attnscale {

/// What the validation tokens' own Bayes loss says about the truth. They are drawn once, so that all runs share this
/// error, and no comparison of runs shows it.
struct ValidationCheck {
  double bayes_loss = 0;                 ///< of the ideal predictor on the validation tokens, nats per token
  double deviation = 0;                  ///< that minus the true Bayes loss
  std::optional<double> standard_error;  ///< of the deviation, where every row records one

  std::string text() const;
  Json to_json() const;
};

/// The rows of a sweep's results.jsonl as the fits see them.
struct SweepRows {
  std::vector<Json> rows;        ///< the last row of each run id, in order of first appearance [R]
  std::vector<Point> points;     ///< with variant label and cell filled in [R]
  std::vector<PairedRun> pairs;  ///< for the comparison [R]
  std::optional<Json> truth;     ///< where all finished rows agree on it
  bool paired = false;           ///< every finished point has a paired loss
  std::optional<ValidationCheck> validation;
  std::vector<std::string> notes;
};

/// Names of the variants; one that occurs with several option sets gets those options behind its name in which the
/// sets differ: `sliding_window window=16`; those that matching moved do not count. Empty for a row without one. @param
/// rows  checked [R]
std::vector<std::string> variant_labels(const std::vector<Json>& rows);

/// A config without its seed: equal for runs of one cell.
std::string cell_of(Json config);

/// The rows as compare_all takes them. One without a config has an empty key and takes no part. [R]
/// One with flags counts as not done unless they are kept.
/// @param rows  checked [R]  @param labels  their variants [R]
std::vector<PairedRun> paired_runs(const std::vector<Json>& rows, const std::vector<std::string>& labels,
                                   bool keep_flagged = false);

/// @throws as read_result_rows, and DataError for values that no run can have
/// @param only  ids of the runs that take part; all if it has no value
SweepRows read_sweep_rows(const std::filesystem::path& folder, const ColumnMap& columns = {}, bool keep_flagged = false,
                          const std::optional<std::set<std::string>>& only = {});

}  // namespace attnscale
