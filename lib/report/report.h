#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace attnscale {

/// What `write_report` left on the disk.
struct ReportFiles {
  std::filesystem::path html;               ///< one page that needs no network
  std::vector<std::filesystem::path> svgs;  ///< figures/*.svg, the page's pictures for papers
  std::vector<std::string> notes;           ///< what is not there and why, in sentences
};

/// Writes report.html and figures/*.svg into a sweep folder, from its files alone. Only results.jsonl must
/// be there; what the rest would have shown is named in the page. Files are replaced atomically.
/// @throws DataError if there are no results or they are not JSON; IoError
ReportFiles write_report(const std::filesystem::path& sweep_folder);

/// Runs as a flat table, one row a run, equal input giving equal bytes whatever the locale.
/// Columns: those of a result row, then config.* (without that prefix), parameters.*, flops_ledger.*,
/// truth.*, timing.*, provenance.*, each group in alphabetical order; learning curves are left out. Numbers are
/// the shortest text that reads back to the same double.
/// @param format  `csv`, `jsonl`, `parquet` or `npy`, as export_table.h says
/// @param curves  a row for each evaluation on the way instead
/// @throws ConfigError for another format; DataError, IoError as `write_report`
std::string export_rows(const std::filesystem::path& sweep_folder, const std::string& format, bool curves = false);

/// Mean loss of each size as plain text for a terminal, with what did not finish. Lines have at most 80
/// columns: the least telling columns go first.
/// @throws DataError, IoError as `write_report`
std::string results_table(const std::filesystem::path& sweep_folder);

}  // namespace attnscale
