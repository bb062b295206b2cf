#pragma once

#include <string>
#include <string_view>

#include "core/json.h"

namespace attnscale {

/// What a checkpoint says of itself: `{"schema", "step", "config", "log_lines", "files": {name: {"bytes", "sha256"}}}`,
/// and last `sha256`, by which it vouches for itself.
Json sealed_manifest(Json manifest);

/// Reads one, its seal and the type of every field checked; the files' hashes are left to check.
/// @param file  for messages
/// @throws DataError with what was expected, ConfigError (JSON)
Json parse_manifest(std::string_view text, const std::string& file);

inline constexpr const char* manifest_schema = "attnscale.checkpoint/1";

}  // namespace attnscale
