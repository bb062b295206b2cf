#include "train/log_rows.h"

#include <fmt/format.h>

namespace attnscale {

std::vector<Json> log_rows_with(std::string_view mark, std::string_view text, const std::string& file) {
  const auto sign = fmt::format("\"{}\":true", mark);
  std::vector<Json> rows;
  for (size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    if (end == std::string_view::npos) break;
    if (const auto line = text.substr(at, end - at); line.find(sign) != std::string_view::npos) {
      auto row = Json::parse(line, nullptr, false);
      if (!row.is_object())
        throw DataError(fmt::format("{}: byte {}: not a row of JSON; the file is damaged", file, at));
      // The sign may stand deeper, or in a text.
      if (const auto said = row.find(std::string(mark)); said != row.end() && *said == true)
        rows.push_back(std::move(row));
    }
    at = end + 1;
  }
  return rows;
}

}  // namespace attnscale
