#pragma once

#include <filesystem>
#include <string>

#include "core/json.h"

namespace attnscale {

/// How two runs differ, from their folders: `config`, `results` and `provenance`, each an object path -> [first,
/// second] of what is not equal (null: not there), and `log`: `equal` bit for bit, `step` (the first at which the logs
/// part), or `missing`.
/// @throws DataError (no run there), ConfigError (JSON), IoError
Json run_diff(const std::filesystem::path& first, const std::filesystem::path& second);

/// `run_diff` for a terminal of `width` columns.
std::string run_diff_text(const Json& diff, size_t width);

/// The step of the first line in which two logs differ; -1 if they are equal bit for bit.
int64_t first_difference_of_logs(const std::filesystem::path& first, const std::filesystem::path& second);

}  // namespace attnscale
