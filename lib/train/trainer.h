#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "train/referee.h"
#include "train/run_config.h"

namespace attnscale {

struct Progress {
  int64_t step = 0, steps = 0;
  double loss = 0;  ///< latest training loss, nats per token
  double steps_per_second = 0;
};

/// Where a run lives and who may stop it.
struct RunControl {
  std::filesystem::path folder;                           ///< runs/<id>: log, checkpoint and result go here
  std::function<void(const Progress&)> on_progress = {};  ///< at most a few times a second; may be empty
  std::function<bool()> stop = {};                        ///< asked after each step; may be empty
  /// What the user should know at once, such as a checkpoint that was passed over; standard error if empty.
  std::function<void(const std::string&)> on_note = {};
  std::filesystem::path stage = {};  ///< of the lease on the folder (core/lease.h); empty: none is held
  Referee* referee = nullptr;        ///< may end the run early; null: it goes to its last step
};

/// Trains one run, or goes on from its checkpoint. Same config, same thread count: same bits,
/// however often it was interrupted.
///
/// Writes `config.json`, `log.jsonl` (a row per step and per evaluation; no clock times, so that the
/// file is the same bits every time), `checkpoint/`, and last, atomically, `result.json`.
///
/// A bad newest checkpoint makes the run go on from the one before, with a note that ends in `provenance.notes` too.
/// @return the row of results.jsonl. Its `status` is `done`, or `diverged` with `diverged_at`, the cause as
///         `message`, and `last_checkpoint`, when the loss or a gradient was not finite and `on_divergence` knew no
///         more. `stopped` with what the referee said, if that ended it; under another rule, or none, the next call
///         goes on from there. `interrupted` (nothing in result.json) after a stop.
/// @throws DataError (checkpoint of another model, no checkpoint that can be used, damaged result.json), IoError,
///         LeaseLost (another has taken the run over: nothing of its files was touched since)
Json train_run(const RunConfig& config, const RunControl& control);

}  // namespace attnscale
