#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// The rows of a sweep's results.jsonl with every field that this program reads checked for its type, so that
/// nobody behind this point has to ask.
struct ResultRows {
  /// The last row of each id, in order of first appearance [R]. A run that the spec's `match` sized has `moved`, the
  /// config paths that matching moved, from plan.json.
  std::vector<Json> rows;
  std::vector<std::string> places;  ///< `file:line` of each [R]
  std::vector<std::string> notes;   ///< a torn last line that was left out
};

/// @throws IoError without the folder; DataError without results.jsonl, without a row in it, for a line that is not
///         a JSON object, and for fields of a wrong type, up to 20 of them by file, line and field
ResultRows read_result_rows(const std::filesystem::path& folder);

}  // namespace attnscale
