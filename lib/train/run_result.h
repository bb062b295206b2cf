#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "model/cost.h"
#include "train/run_config.h"

namespace attnscale {

/// What a finished run hands over to be written down.
struct RunOutcome {
  std::string status;                  ///< done, diverged, stopped, failed, oom
  int64_t steps = 0;                   ///< updates done
  std::vector<Json> evaluations;       ///< rows of the log, in order
  std::vector<Json> looks = {};        ///< rows of the log, in order
  std::optional<int64_t> diverged_at;  ///< the step whose numbers were not finite
  std::string message;                 ///< of failed and oom; the cause of diverged
  Json stopped = {};                   ///< of stopped: what the referee said (train/referee.h)
  std::string last_checkpoint = {};    ///< of diverged: the last good one, below the run's folder; may be empty
  int64_t skipped_steps = 0;           ///< that left the weights alone
  int64_t roll_backs = 0;
  double seconds = 0;                   ///< of training, over all sessions
  std::string started, finished;        ///< UTC
  std::vector<std::string> notes = {};  ///< what happened to the run: a checkpoint that was passed over
};

/// The row of results.jsonl. Never holds NaN or null: what is not known is left out. A run that is done has `flags`,
/// empty or not (`run_flags`).
Json result_row(const RunConfig& config, const ModelCost& cost, const RunOutcome& outcome);

/// Reads a `result.json`.
/// @throws DataError with file, line, field and what was expected, or if its seal does not hold; ConfigError (JSON),
/// IoError
Json read_row(const std::filesystem::path& file);

/// Adds `provenance.sha256`, a hash over the rest of the row, by which `read_row` notices a changed bit.
void seal(Json& row);

/// Whether a row decides its run: `done`, `diverged`, or `stopped` early. What failed or ran out of memory is tried
/// again.
bool decides(const Json& row);

/// The same beside a rule for early stopping (null: none): what was stopped under another one goes on.
bool decides(const Json& row, const Json& rule);

}  // namespace attnscale
