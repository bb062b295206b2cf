#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// The rows of a run's log that say `"<mark>": true`, in order. Only those are parsed: most rows are steps.
/// @param text  complete lines, of which a last torn one is left out
/// @param file  for messages
/// @throws DataError with the byte where a row that says so is not an object
std::vector<Json> log_rows_with(std::string_view mark, std::string_view text, const std::string& file);

}  // namespace attnscale
