#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace attnscale {

/// JSON as files hold it: keys keep their order.
using Json = nlohmann::ordered_json;

/// 1-based place in a text; columns count bytes.
struct TextPosition {
  int64_t line = 1;
  int64_t column = 1;
};

/// A parsed JSON text that remembers where each value stood.
class JsonDocument {
 public:
  Json value;
  std::string name;  ///< the file, as the user gave it

  /// `spec.json:14:9` for the value at a JSON path, or for its nearest parent that exists.
  std::string place(const std::string& path) const;

  /// Throws ConfigError with one line per problem, each opened by its place; no-op without problems.
  void refuse(const std::vector<Problem>& problems) const;

  std::map<std::string, TextPosition> positions;  ///< by JSON path: `grid.model.depth[1]`
  std::map<std::string, std::string> origins;     ///< values that did not come from the text: `--set`
};

/// Reads strict JSON: no duplicate keys, no NaN, no numbers that overflow a double, no byte-order
/// mark, valid UTF-8, at most 64 levels deep. Comments (`//`, `/* */`) are allowed.
/// @throws ConfigError with file:line:column and what was expected
JsonDocument parse_json(std::string_view text, const std::string& name);

/// @param file  a regular file, or `-` for standard input
/// @throws IoError if the file cannot be read, DataError if it is larger, ConfigError as `parse_json`
JsonDocument read_json(const std::filesystem::path& file, int64_t most_bytes = int64_t{1} << 30);

/// `parent.key`, or `key` at the top.
std::string join_path(const std::string& parent, const std::string& key);

/// What a value is, in words for messages: `the number 0.9`, `the text "x"`, `a list`.
std::string describe_value(const Json& value);

/// One line, keys sorted, shortest round-trip numbers: equal values give equal bytes.
std::string canonical(const Json& value);

}  // namespace attnscale
