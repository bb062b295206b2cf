#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Where a training run was on its way.
struct Waypoint {
  double D = 0, C = 0, L = 0;  ///< tokens, training FLOPs and loss (nats per token) so far
};

/// One training run, or one checkpoint of it.
struct Point {
  std::string run;      ///< rows of one run share it; empty: every row is a run of its own
  std::string variant;  ///< attention variant; empty when the table has none
  std::string cell;     ///< what its seeds share; empty: variant, N, D, and what else of width, depth and U is known
  double N = 0;         ///< parameters; 0 when the table has no such column
  double D = 0;         ///< training tokens; 0 when the table has no such column
  double C = 0;         ///< training FLOPs; 0 when the table has no such column
  double width = 0;     ///< of the model; 0 when the table has no such column
  double depth = 0;     ///< its layers; likewise
  double U = 0;         ///< unique training tokens, where some come again; likewise
  double S = 0;         ///< training steps; likewise
  double L = 0;         ///< loss, nats per token; 0 unless the status is `done`
  double paired_L = 0;  ///< true Bayes loss + excess over the Bayes-optimal prediction of the same tokens; 0: not known
  std::vector<Waypoint> curve;  ///< evaluations on the way, where the row has them
  int64_t seed = 0;
  std::vector<std::string> flags;  ///< what the trainer found suspicious about a run that is done
  std::string status = "done";     ///< anything else is counted and named, and not fitted
  std::string place;               ///< `file:line`
  bool done() const { return status == "done"; }
};

/// Which column holds what. Roles: N, D, C, L, run, variant, seed, status, width, depth, U (unique tokens), S (steps).
struct ColumnMap {
  std::map<std::string, std::string> columns;  ///< role -> column; a dotted name enters nested JSON objects

  /// `N=params,D=tokens,L=loss,run=run_name`. @throws ConfigError for an unknown or repeated role
  static ColumnMap parse(const std::string& text);

  /// Names that are tried, in order, for a role that the map leaves out.
  static const std::vector<std::string>& defaults(const std::string& role);
  static const std::vector<std::string>& roles();

  /// Counts N or C another way: takes the column of that ledger of result rows, `parameters.NAME` or
  /// `flops_ledger.NAME`. @param role  "N" or "C"  @param name  one of `ledgers(role)`
  /// @throws ConfigError for an unknown name, or when the map has a column for the role already
  void count_by(const std::string& role, const std::string& name);

  /// N: standard_block (12 l d^2 in the standard block), non_embedding, without_input_embedding (with the head), total.
  /// C: six_n (6 N D), six_n_with_head, algorithmic (with attention), executed (measured at the dispatcher).
  static const std::vector<std::string>& ledgers(const std::string& role);

  /// What a role is read from, for reports: the column of the map, else the first default.
  std::string source_of(const std::string& role) const;
};

/// Reads a CSV (quoted fields, CRLF, comma, semicolon or tab), a JSON list of objects, JSONL, or a
/// sweep folder (its results.jsonl). Roles not in the map take their default column where it exists.
///
/// @throws IoError if unreadable; DataError, listing up to 20 problems by file and line: a mapped
///         column that does not exist (with those that do, and the nearest), text where a number
///         belongs, NaN, infinite, zero or negative values, a binary file, an empty table
std::vector<Point> read_points(const std::filesystem::path& path, const ColumnMap& columns);

/// As `read_points`, of a file's text. @param file  whose extension says what it is, and for messages
std::vector<Point> points_of_text(std::string_view text, const std::filesystem::path& file, const ColumnMap& columns);

/// The objects of a JSONL file with their places.
struct JsonLines {
  std::vector<std::pair<std::string, Json>> rows;  ///< `file:line`, object
  int64_t torn_line = 0;                           ///< the last line, if it was left out; else 0
};

/// With `may_be_torn`, a last line without newline that is not JSON (a writer was killed) is left out.
/// @throws DataError naming the line, IoError
JsonLines read_jsonl(const std::filesystem::path& file, bool may_be_torn);

/// Points of JSON rows, read by the same rules. @param source  name for messages
std::vector<Point> points_of_rows(const std::vector<std::pair<std::string, Json>>& rows, const ColumnMap& columns,
                                  const std::string& source);

/// Numbers the groups of points that are independent of each other: points of one run, and the
/// seeds of one cell, belong together, and so does what is linked through them. [P]
std::vector<int> independent_groups(const std::vector<Point>& points);

}  // namespace attnscale
