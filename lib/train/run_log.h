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
  /// @throws DataError if there are fewer, IoError
  RunLog(const std::filesystem::path& file, int64_t lines);

  /// One whose weights were left alone is `skipped` and has no gradient_norm. @param scaled  with the loss scale
  void add_step(int64_t step, const StepResult& result, bool scaled);
  /// @param in_detail  with accuracies by position and distance: for the last one
  void add_evaluation(int64_t step, const Evaluation& evaluation, int64_t tokens, double flops, bool in_detail);

  void add_watch(const Json& row) { append(row); }

  /// Waits until everything is on disk.
  void sync() { log_.sync(); }

  int64_t lines() const { return lines_; }

  /// Drops what follows. @throws IoError, DataError if there are fewer
  void truncate_to(int64_t lines);

  /// The rows of all evaluations so far, or of all looks, read back from the file.
  std::vector<Json> evaluations() { return rows_with("eval"); }
  std::vector<Json> looks() { return rows_with("watch"); }

 private:
  void append(const Json& row);
  std::vector<Json> rows_with(const std::string& mark);

  std::filesystem::path file_;
  AppendLog log_;
  int64_t lines_;
  std::chrono::steady_clock::time_point last_flush_ = std::chrono::steady_clock::now();
};

}  // namespace attnscale
