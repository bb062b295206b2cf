#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "core/error.h"

namespace attnscale {

/// What was to be written belongs to another holder by now. Nothing was changed.
class LeaseLost : public Error {
 public:
  explicit LeaseLost(const std::string& message) : Error(message, ExitCode::interrupted) {}
};

/// The right to write in a folder, for as long as its holder gives signs of life: processes on one host or on many take
/// it in turn. No clocks are compared: who waits measures by its own for how long the holder's count of signs stood
/// still.
///
/// A lease is a folder `lease-<token>` in the folder that it is about, tokens count up, and the highest is the
/// holder's. The holder makes everything that it publishes in a folder in there (`stage`) and renames it to its place.
/// Who takes over renames that lease away first. From then on every rename of the former holder fails, however long it
/// slept between a check and the rename: the token is checked by the file system, in the same act that publishes. A
/// stage's name is drawn by chance, so that one late in asking, who takes a token that was free again and finds a
/// higher one beside it, does not give a former holder its paths back. What it takes from the file system: a rename is
/// one act, and does not replace a folder that holds something.
class Lease {
 public:
  /// Takes the lease if nobody has it: it was never taken, was given back, its holder's process is gone (seen on the
  /// same host), or `expired` is its token. Begins with a sign of life each quarter of `seconds`, from a thread.
  /// @return nothing if it is held, or another was quicker  @throws IoError
  static std::unique_ptr<Lease> take(const std::filesystem::path& folder, double seconds, int64_t expired = 0);

  /// Gives it back.
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const std::filesystem::path& stage() const { return stage_; }
  int64_t token() const { return token_; }
  bool is_lost() const { return lost_; }  ///< seen at the last sign of life

 private:
  Lease(std::filesystem::path stage, int64_t token, double seconds);
  void beat_until_ended();
  bool write_owner(bool released);

  std::filesystem::path stage_;
  int64_t token_, beats_ = 0;
  double seconds_;
  std::atomic<bool> lost_ = false;
  bool ended_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread beating_;
};

struct LeaseState {
  int64_t token = 0;
  int64_t beats = 0;
  double seconds = 0;
  bool held = false;   ///< as far as one look can tell
  bool here = false;   ///< the holder is of this host, where one look can tell
  std::string holder;  ///< `host, process 12`
};
/// @throws IoError if the folder is there and cannot be listed
LeaseState look_at_lease(const std::filesystem::path& folder);

/// Waits, look by look, until a lease can be taken.
class LeaseWatch {
 public:
  /// @param seconds  what a holder that does not say gets
  LeaseWatch(std::filesystem::path folder, double seconds) : folder_(std::move(folder)), seconds_(seconds) {}

  /// Whether `Lease::take` may be called, with `expired()`.
  bool is_free();
  int64_t expired() const { return expired_; }
  const LeaseState& state() const { return state_; }

  /// Whether the holder is known to live: a process of this host, or one that gave a sign of life between two looks.
  bool holder_lives() const { return state_.held && (state_.here || moved_); }

 private:
  std::filesystem::path folder_;
  double seconds_;
  LeaseState state_;
  bool looked_ = false, moved_ = false;
  int64_t expired_ = 0;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

/// Waits until the lease is this process's. @param give_up  asked now and then; empty: never
/// @param waits  told once whose end this waits for
/// @return nothing when it was time to give up  @throws IoError
std::unique_ptr<Lease> wait_for_lease(const std::filesystem::path& folder, double seconds,
                                      const std::function<bool()>& give_up = {},
                                      const std::function<void(const LeaseState&)>& waits = {});

/// @throws LeaseLost if the stage is gone; no-op for an empty path
void check_stage(const std::filesystem::path& stage);

/// `write_file_atomically` by way of a lease's stage; with an empty one, just that. @throws LeaseLost, IoError
void write_file_through(const std::filesystem::path& stage, const std::filesystem::path& file,
                        std::string_view content);

/// Renames a file or folder of the stage to its place, in place of what is there; syncs the folder it comes to.
/// @throws LeaseLost, IoError
void publish(const std::filesystem::path& stage, const std::filesystem::path& from, const std::filesystem::path& place);

/// Removes a file or folder, moving it into the stage first, so that only a holder can. @throws LeaseLost, IoError
void remove_through(const std::filesystem::path& stage, const std::filesystem::path& what);

}  // namespace attnscale
