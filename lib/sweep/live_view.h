#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// A run that some process holds.
struct LiveRun {
  std::string id, holder;
  int64_t step = 0, steps = 0;
  std::optional<double> loss;              ///< of the newest row of its log
  std::optional<double> steps_per_second;  ///< between two looks
};

/// Where a sweep stands that other processes train, here or elsewhere.
struct LiveState {
  int64_t runs = 0, done = 0, stopped = 0, diverged = 0, failed = 0;
  std::vector<LiveRun> running;
  std::vector<std::string> failures;  ///< `id: message`, of failed, diverged and out of memory, newest last
  double fraction = 0;                ///< of the whole work, running runs' parts counted
  /// What is left, by the pace of the runs that have ended: seconds, and the 90 % of an interval over their paces.
  /// Nothing before two have ended, or while nobody is at work.
  std::optional<double> seconds_left, least_left, most_left;
  int64_t ended() const { return done + stopped + diverged + failed; }
};

/// Looks at a sweep's folder, again and again, and writes nothing.
class LiveView {
 public:
  /// @throws IoError, DataError: no such folder, or no plan.json in it
  explicit LiveView(std::filesystem::path folder);

  /// Reads what has changed since the last look. Cost: a few file operations for each run that has not ended.
  LiveState look();

  const std::string& name() const { return name_; }

 private:
  struct Planned {
    std::string id;
    double work = 0;
    int64_t steps = 0;
  };
  void read_result(const Planned& run, LiveState& state);

  std::filesystem::path folder_;
  std::string name_;
  std::vector<Planned> runs_;
  double total_work_ = 0;
  struct Ended {
    std::string status, message;
    double seconds = 0;
    std::filesystem::file_time_type written;
  };
  std::map<std::string, Ended> ended_;
  std::map<std::string, std::pair<int64_t, std::chrono::steady_clock::time_point>> steps_seen_;
};

/// A line for a log, or with `lines` above 1 a block for a terminal: a bar, what is left, the running runs, failures.
/// Lines are cut to `width` columns.
std::vector<std::string> live_text(const LiveState& state, const std::string& name, size_t width, size_t lines);

}  // namespace attnscale
