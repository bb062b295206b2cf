#pragma once

#include <map>
#include <string>

#include <sys/types.h>

#include "core/json.h"

namespace attnscale {

/// A Python process that answers questions, one JSON document a line each way. It does nothing between two questions,
/// so that it and this program can be timed in turns. What it says on its error stream goes to this program's.
class PythonPeer {
 public:
  /// @param python  an interpreter, by path or by a name on PATH
  /// @param script  source text that reads questions from its input and answers on its output
  /// @param environment  variables that it has beside or in place of this program's
  /// @throws IoError if no process can be started
  PythonPeer(const std::string& python, const std::string& script, int threads,
             std::map<std::string, std::string> environment = {});
  ~PythonPeer();
  PythonPeer(const PythonPeer&) = delete;
  PythonPeer& operator=(const PythonPeer&) = delete;

  /// Waits for the answer as long as it takes.
  /// @throws ConfigError if it ended, answered what is not JSON, or answered {error: reason}
  Json ask(const Json& question);

 private:
  std::string read_line();

  std::string python_, pending_;
  pid_t process_ = -1;
  int to_ = -1, from_ = -1;
};

}  // namespace attnscale
