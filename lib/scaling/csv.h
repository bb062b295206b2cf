#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace attnscale {

/// Reads delimited text record by record (RFC 4180): quoted fields may hold delimiters, doubled
/// quotes and line breaks; lines end in LF or CRLF; empty lines are skipped; a byte-order mark is too.
class CsvReader {
 public:
  /// @param name  file, for messages. The delimiter is the most frequent of `,`, `;` and tab in the
  ///              first line.
  CsvReader(std::string_view text, std::string name);

  /// Next record, false at the end. @throws DataError for a quote that never closes, with its line
  bool next(std::vector<std::string>& fields);

  int64_t line() const { return record_line_; }  ///< where the last record began, from 1

 private:
  void read_quoted(std::string& field);

  std::string_view text_;
  std::string name_;
  char delimiter_ = ',';
  size_t at_ = 0;
  int64_t line_ = 1, record_line_ = 1;
};

}  // namespace attnscale
