#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "core/json.h"

namespace attnscale {

/// What a sweep shows while it runs, on standard error: one line redrawn in a terminal; plain lines,
/// one per finished run and a summary now and then, anywhere else (pipe, TERM=dumb, NO_COLOR).
class ProgressView {
 public:
  /// @param total_work  FLOPs-like weight of all runs that remain
  ProgressView(int64_t runs, int64_t already_done, double total_work);
  ~ProgressView();

  void started(const std::string& id, double work);
  void progressed(const std::string& id, const Json& progress);
  void finished(const std::string& id, const Json& row);
  void left(const std::string& id) { active_.erase(id); }  ///< to another process

  /// A line for the user to read now.
  void say(const std::string& text);

  /// Redraws if enough time has passed.
  void tick();

 private:
  struct Active {
    double work = 0, fraction = 0;
    std::optional<double> loss;
  };
  double seconds() const;
  std::string summary() const;
  void draw();

  int64_t runs_, done_, failed_ = 0, stopped_ = 0;
  double total_work_, finished_work_ = 0;
  std::map<std::string, Active> active_;
  std::chrono::steady_clock::time_point begin_, last_draw_;
  bool redraw_;  ///< a terminal that can go back to the start of the line
  bool drawn_ = false;
};

}  // namespace attnscale
