#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "core/files.h"
#include "sweep/plan.h"

namespace attnscale {

/// A sweep's folder. A run is done when its `result.json` is there, complete and its own; the table
/// `results.jsonl` is made from those, so that a crash between the two loses nothing. A run that failed or ran out of
/// memory has a `result.json` too, which stays until the run has been done anew.
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
  bool is_done(const std::string& id) const;

  /// Acknowledges a run: its row goes into the table, and the disk has it. Of a run that failed the `result.json` is
  /// written here, since no trainer did.
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

/// Rows of a plan's runs that are in a folder, by id, without touching it; what is damaged is left out.
std::map<std::string, Json> peek_results(const std::filesystem::path& folder, const Plan& plan);

/// What came from another build of the program, a line for each: `12 of 40 runs are done by version 0.1.0, commit abc`;
/// empty if all are this one's.
std::string other_builds_text(const std::map<std::string, Json>& rows, size_t num_runs);

}  // namespace attnscale
