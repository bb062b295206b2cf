#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// A flat table on its way out: a cell for each column in each row, null where there is none.
struct ExportTable {
  std::vector<std::string> columns;
  std::vector<std::vector<Json>> rows;
};

/// What a column of a typed format holds: the narrowest kind that all its cells have.
enum class ColumnKind {
  boolean,
  whole,   ///< int64
  number,  ///< double; whole numbers among them too
  text     ///< UTF-8; cells of other kinds (lists, mixtures) as JSON
};
ColumnKind kind_of(const ExportTable& table, size_t column);

/// The text of a cell in a text column: as it is, or as JSON.
std::string text_of(const Json& cell);

/// One row a run (`export_rows` says which columns), and one row an evaluation: id, variant, seed, step, tokens, flops,
/// loss.
/// @throws DataError, IoError as `write_report`
ExportTable runs_table(const std::filesystem::path& sweep_folder);
ExportTable curves_table(const std::filesystem::path& sweep_folder);

/// RFC 4180, lines end in \n; a text that a spreadsheet would take for a formula gets a leading apostrophe.
std::string csv_of(const ExportTable& table);

/// A JSON object a line; absent cells are left out.
std::string jsonl_of(const ExportTable& table);

/// Apache Parquet, format version 1: one row group, plain encoding, no compression, every column optional.
/// Source: the Parquet format specification (apache/parquet-format), Thrift compact protocol for its metadata.
std::string parquet_of(const ExportTable& table);

/// NumPy's .npy, format version 1.0 or 2.0: a one-dimensional structured array, a field for each column. A boolean or
/// whole column with absent cells becomes double; absent numbers are NaN, absent texts empty.
/// Source: NumPy Enhancement Proposal 1.
std::string npy_of(const ExportTable& table);

/// TensorBoard event files, `out/VARIANT-ID/events.out.tfevents.0.attnscale`: from each run's log the scalars
/// `train/loss`, `train/learning_rate`, `train/gradient_norm`, and `validation/...` of every evaluation, as doubles.
/// The log has no clock; times are spread evenly over the run's own seconds.
/// @return runs that were written  @throws DataError, IoError
int64_t export_tensorboard(const std::filesystem::path& sweep_folder, const std::filesystem::path& out);

}  // namespace attnscale
