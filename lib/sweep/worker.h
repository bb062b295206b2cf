#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include <sys/types.h>

#include "core/json.h"

namespace attnscale {

/// The parent's end of a worker: a long-lived process that trains one run after another.
///
/// The two speak JSON lines over pipes. To the worker: {"folder", "config", "lease_seconds", "expired_lease",
/// "stopping"}. Back: {"lease": token of the run's}, {"progress": ...} and {"note": text}, then {"result": row},
/// {"error": message, "code": exit code}, {"busy": who has the run} or {"lost": message}, when another has taken the
/// run over. The kernel kills a worker whose parent dies.
class Worker {
 public:
  /// Starts `program worker` with `threads` threads. @throws IoError
  Worker(const std::filesystem::path& program, int threads);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// @param lease_seconds, expired_lease  for Lease::take
  /// @param stopping                      a `stopping_request`, or null
  void start(const std::filesystem::path& run_folder, const Json& config, double lease_seconds, int64_t expired_lease,
             const Json& stopping = nullptr);

  /// Reads what is there. @return complete lines, oldest first; sets `closed` at the end of the stream
  std::vector<Json> read();
  bool closed() const { return closed_; }

  /// Asks the worker to save and stop.
  void ask_to_stop();

  /// Whether the kernel has it stopped (SIGSTOP, a debugger), so that it cannot answer.
  bool is_stopped() const;

  /// Seconds since it last said something, or was given work.
  double silent_seconds() const;

  /// The longest it was silent between two messages of a run, so far.
  double longest_silence() const { return longest_silence_; }

  /// SIGKILL: what it wrote to the disk stays, its run goes on from its checkpoint another time.
  void kill();

  pid_t process() const { return process_; }

  /// Waits for a closed worker and says how it ended: `killed by signal 9 (Killed)`.
  std::string end();

  int descriptor() const { return from_; }
  std::string run_id;  ///< what it is doing; empty when idle
  int64_t lease = 0;   ///< under which it does that; 0 until it said so

 private:
  pid_t process_ = -1;
  int to_ = -1, from_ = -1;
  std::string pending_;
  bool closed_ = false;
  std::chrono::steady_clock::time_point heard_ = std::chrono::steady_clock::now();
  double longest_silence_ = 0;
};

/// The worker process: serves requests on standard input until it is closed.
int serve_runs(int threads);

}  // namespace attnscale
