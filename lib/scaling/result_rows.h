#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// The groups of a spec that a run is in, by its id, from groups.json; empty of a sweep without.
/// @throws DataError if the file is no such table
std::map<std::string, std::vector<std::string>> groups_of_runs(const std::filesystem::path& folder);

/// The rows of a sweep's results.jsonl with every field that this program reads checked for its type, so that
/// nobody behind this point has to ask.
struct ResultRows {
  /// The last row of each id, in order of first appearance [R]. A run that the spec's `match` sized has `moved`, the
  /// config paths that matching moved, from plan.json; one of a spec with groups has `group`, the first group that it
  /// is in, and `groups`, all of them.
  std::vector<Json> rows;
  std::vector<std::string> places;  ///< `file:line` of each [R]
  std::vector<std::string> notes;   ///< a torn last line that was left out
};

/// @throws IoError without the folder; DataError without results.jsonl, without a row in it, for a line that is not
///         a JSON object, and for fields of a wrong type, up to 20 of them by file, line and field
ResultRows read_result_rows(const std::filesystem::path& folder);

}  // namespace attnscale
