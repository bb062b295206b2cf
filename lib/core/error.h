#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace attnscale {

/// What the program's exit status tells a script or a scheduler.
enum class ExitCode : int {
  done = 0,
  run_failed = 1,    ///< some runs failed or diverged
  usage = 2,         ///< wrong flags or arguments
  bad_input = 65,    ///< a spec or data file that cannot be used
  io = 74,           ///< disk full, unreadable, unwritable
  interrupted = 75,  ///< stopped on request; the same command goes on
};

/// One thing wrong with a user's input. `path` is the JSON path (`grid.attention.window[1]`).
struct Problem {
  std::string path;
  std::string message;  ///< what was received, what was expected, and the repair
};

/// An error of the user's world: it ends the command with a message and an exit code.
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, ExitCode code) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

/// A spec, flag or option that cannot be used. Carries every problem found, not only the first.
class ConfigError : public Error {
 public:
  explicit ConfigError(const std::string& message) : Error(message, ExitCode::bad_input) {}
};

/// A corpus, table or checkpoint whose content cannot be used.
class DataError : public Error {
 public:
  explicit DataError(const std::string& message) : Error(message, ExitCode::bad_input) {}
};

/// Tensors whose shapes or dtypes disagree with what a function documents.
class ShapeError : public Error {
 public:
  explicit ShapeError(const std::string& message) : Error(message, ExitCode::bad_input) {}
};

/// A computation that lost its meaning: NaN or infinity in a loss, a fit without an optimum.
class NumericsError : public Error {
 public:
  explicit NumericsError(const std::string& message) : Error(message, ExitCode::run_failed) {}
};

/// The operating system refused: disk full, no permission, no such file.
class IoError : public Error {
 public:
  explicit IoError(const std::string& message) : Error(message, ExitCode::io) {}
};

}  // namespace attnscale
