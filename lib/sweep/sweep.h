#pragma once

#include <filesystem>

#include "core/error.h"
#include "sweep/plan.h"

namespace attnscale {

struct SweepOptions {
  std::filesystem::path folder;   ///< where results go
  std::filesystem::path program;  ///< this program, started again as worker
  int jobs = 1;                   ///< runs side by side
  int threads = 1;                ///< threads of each run
  double lease_seconds = 60;      ///< without a sign of life after which another process may take a run over
};

struct SweepOutcome {
  int64_t done = 0, diverged = 0, failed = 0;
  int64_t stopped = 0;  ///< early, by the spec's rule
  int64_t refused = 0;  ///< of those that failed: data or a checkpoint that cannot be used
  int64_t flagged = 0;  ///< of those that are done: with doubts (`run_flags`)
  bool interrupted = false;
  /// Whether this process keeps the folder's table, and so has to finish the sweep; else who does.
  bool leads = true;
  std::string leader;
  ExitCode code() const;
};

/// Trains every run of the plan that is not done yet, together with any other process that was given the same plan and
/// folder, on this host or another: each run is leased to one (core/lease.h), and one process keeps the table. What
/// finished is durable before the next run starts on the same worker; after an interruption the same call goes on where
/// this one stopped. Progress goes to standard error. After a stop request a worker that does not answer is named, and
/// in the end killed.
/// @throws IoError when the disk refuses (the sweep stops; what is done is kept)
SweepOutcome run_sweep(const Spec& spec, const Plan& plan, const SweepOptions& options);

/// The row of a run that did not come to an end by itself.
Json failed_row(const PlannedRun& run, const std::string& status, const std::string& message);

/// Trains a plan's only run in this process, in the same kind of folder; a run that another process has is waited for,
/// and goes on here if that one is gone.
/// @return the run's row; status `interrupted` after a stop signal
Json run_single(const Spec& spec, const Plan& plan, const std::filesystem::path& folder);

}  // namespace attnscale
