#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// The rows of a sweep's results.jsonl as a table with a column for each path, for questions over many runs: 30,000
/// rows in well under a second. Paths of the config go without `config.`: `model.depth`, `attention.variant`. Learning
/// curves are left out. Of several rows with one id the last counts.
class RunTable {
 public:
  /// @throws IoError (no such folder), DataError (no results, or a line that is not a JSON object with an id: file and
  ///         line are named; a torn last line is left out)
  static RunTable read(const std::filesystem::path& folder);

  size_t num_rows() const;

  /// Every path that occurs, as `export` orders them.
  const std::vector<std::string>& paths() const;

  /// Paths of the config whose values are not the same in all rows, in order.
  std::vector<std::string> varying_settings() const;

  /// The path that a name stands for: itself, or the one path that ends in it (`depth`: `model.depth`). Keys that any
  /// row may have, such as `message`, are known though no row has them. `blocks.gradient_norm` stands for what was
  /// watched of every block: a list for each look, of a number for each block.
  /// @throws ConfigError for an unknown name, with the nearest, and for one that several paths end in
  std::string resolve(const std::string& name) const;

  /// The shortest name that `resolve` takes for this path.
  std::string short_name(const std::string& path) const;

  /// Cells by row, then in the order of `paths`; null where a row has no such value.
  std::vector<std::vector<Json>> cells(const std::vector<std::string>& paths) const;

 private:
  class Content;
  std::shared_ptr<const Content> content_;
};

/// Sorts column names: those of the row itself first, then the config's, then the rest, as `export` promises.
void sort_columns(std::vector<std::string>& columns);

/// Keys that a row of results may have of its own.
const std::vector<std::string>& row_keys();

}  // namespace attnscale
