#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// A file that a spec was made of beside its own.
struct IncludedFile {
  std::string file;  ///< as found: relative to where the program runs, if the spec was
  std::string sha256;
};

/// Puts one JSON value over another: objects are merged key by key, what only one has stays, and of what both have that
/// is no object `above` counts. A section that names what it builds (`variant`, `source`) and names something else than
/// the one beneath replaces it as a whole, since the options of one are not those of the other. Keys keep the order of
/// `beneath`, then of `above`.
/// @param taken  gets the paths whose values came from `beneath` unchanged
Json merged(const Json& beneath, const Json& above, const std::string& path, std::vector<std::string>& taken);

/// Reads a spec with what its key `include` names, a file or a list of files, merged beneath it: the first lies lowest.
/// Paths are relative to the including file; included files may include others. `name`, `description` and `$schema` are
/// a file's own. In the document there is no `include` any more, and each value knows the file and line it came from.
/// @param included  gets the files, each once, in the order in which they were read
/// @throws ConfigError with the line of the `include`: a file that is missing, or includes itself; as read_json
JsonDocument read_with_includes(const std::filesystem::path& file, int64_t most_bytes,
                                std::vector<IncludedFile>& included);

}  // namespace attnscale
