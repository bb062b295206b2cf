#pragma once

#include <chrono>

#include "core/files.h"
#include "core/json.h"
#include "train/evaluate.h"
#include "train/stepper.h"

namespace attnscale {

/// What a run has to say while it trains: `log.jsonl`, a row per step and per evaluation. No clock times, so that the
/// file is the same bits however often the run was interrupted.
class RunLog {
 public:
  /// Opens the file and keeps its first `lines` lines: those that a checkpoint knows.
  /// @param stage  of the lease on the run (core/lease.h): what this writes then is a file of its own, which takes the
  ///               place of the former holder's, so that what that one still appends is nowhere; empty: none
  /// @throws DataError if there are fewer, IoError, LeaseLost
  RunLog(const std::filesystem::path& file, int64_t lines, const std::filesystem::path& stage = {});

  /// One whose weights were left alone is `skipped` and has no gradient_norm. @param scaled  with the loss scale
  void add_step(int64_t step, const StepResult& result, bool scaled);
  /// @param in_detail  with accuracies by position and distance: for the last one
  /// @param more       members that the row gets beside them
  void add_evaluation(int64_t step, const Evaluation& evaluation, int64_t tokens, double flops, bool in_detail,
                      const Json& more = Json::object());

  void add_watch(const Json& row) { append(row); }

  /// Waits until everything is on disk. @throws IoError, LeaseLost
  void sync();

  int64_t lines() const { return lines_; }

  /// Drops what follows. @throws IoError, DataError if there are fewer
  void truncate_to(int64_t lines);

  /// The rows of all evaluations so far, or of all looks, read back from the file.
  std::vector<Json> evaluations() { return rows_with("eval"); }
  std::vector<Json> looks() { return rows_with("watch"); }

 private:
  void append(const Json& row);
  std::vector<Json> rows_with(const std::string& mark);

  std::filesystem::path file_, stage_;
  AppendLog log_;
  int64_t lines_;
  std::chrono::steady_clock::time_point last_flush_ = std::chrono::steady_clock::now();
};

}  // namespace attnscale
