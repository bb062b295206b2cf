#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "core/files.h"
#include "sweep/plan.h"

namespace attnscale {

/// A sweep's folder. A run is done when its `result.json` is there, complete and its own; the table
/// `results.jsonl` is made from those, so that a crash between the two loses nothing.
///
///   spec.json  plan.json  results.jsonl  runs/<id>/{config.json, log.jsonl, checkpoint/, result.json}
class Store {
 public:
  /// Opens or creates the folder and takes its lock: one sweep at a time writes here.
  /// @throws IoError, also when another process is at work in this folder
  Store(std::filesystem::path folder, const Plan& plan);

  /// Keeps the spec as given and the plan as resolved.
  void write_plan(const Spec& spec, const Plan& plan);

  std::filesystem::path run_folder(const std::string& id) const;
  bool is_done(const std::string& id) const { return rows_.contains(id); }

  /// Acknowledges a run: appends its row and waits until the disk has it.
  void record(const Json& row);

  /// Rows in plan order, so that the finished table is the same whatever the order of execution.
  void finish();

  /// Runs in this folder that the plan does not have; they are kept, and left out of the table.
  int64_t strangers() const { return strangers_; }
  const std::filesystem::path& folder() const { return folder_; }
  const std::map<std::string, Json>& rows() const { return rows_; }

 private:
  std::string table() const;

  std::filesystem::path folder_;
  std::unique_ptr<FileLock> lock_;
  std::vector<std::string> order_;
  std::map<std::string, Json> rows_;
  std::unique_ptr<AppendLog> log_;
  int64_t strangers_ = 0;
};

/// The result of a run folder if it is there and belongs to `id`; nothing if it is absent or damaged.
std::optional<Json> read_result(const std::filesystem::path& run_folder, const std::string& id);

}  // namespace attnscale
