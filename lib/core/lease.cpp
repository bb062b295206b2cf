#include "core/lease.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <fstream>
#include <optional>

#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/files.h"
#include "core/json.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

/// Which host, and which of its spaces of process numbers: containers share a host and number processes each for
/// themselves.
std::string host_key() {
  struct stat space {};
  if (::stat("/proc/self/ns/pid", &space) != 0) space.st_ino = 0;
  return fmt::format("{}/{}", first_line("/proc/sys/kernel/random/boot_id"), space.st_ino);
}

/// When a process of this host began, in the kernel's ticks; nothing if it is gone, or only waits to be buried.
std::optional<int64_t> start_of(int64_t process) {
  // `123 (name) S ...`: the name may hold anything; the state follows the last parenthesis, the start is 19 words on.
  const auto line = first_line(fmt::format("/proc/{}/stat", process));
  const auto end = line.rfind(") ");
  if (end == std::string::npos || line[end + 2] == 'Z' || line[end + 2] == 'X') return std::nullopt;
  size_t at = end + 2;
  for (int word = 0; word < 19 && at != std::string::npos; ++word) at = line.find(' ', at + 1);
  if (at == std::string::npos) return std::nullopt;
  return std::atoll(line.c_str() + at);
}

Json owner_of_this_process() {
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0) std::strcpy(host, "unknown");
  std::string name(host);
  for (char& c : name)
    if (static_cast<unsigned char>(c) < 0x21 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  return {{"schema", "attnscale.lease/1"},
          {"host", name},
          {"host_key", host_key()},
          {"process", ::getpid()},
          {"process_started", start_of(::getpid()).value_or(0)}};
}

Json read_owner(const fs::path& lease) {
  std::ifstream stream(lease / "owner.json");
  Json owner = Json::parse(stream, nullptr, false);
  return owner.is_object() ? owner : Json::object();
}

template <class T>
T value_in(const Json& owner, const char* key, T otherwise) {
  const auto found = owner.find(key);
  if (found == owner.end()) return otherwise;
  if constexpr (std::is_same_v<T, std::string>) return found->is_string() ? found->get<T>() : otherwise;
  else if constexpr (std::is_same_v<T, bool>) return found->is_boolean() ? found->get<T>() : otherwise;
  else return found->is_number() ? found->get<T>() : otherwise;
}

/// Whether it is known that the process is gone; of another host nothing is known.
bool is_dead(const Json& owner) {
  if (value_in<std::string>(owner, "host_key", "") != host_key()) return false;
  const auto start = start_of(value_in<int64_t>(owner, "process", -1));
  return !start || *start != value_in<int64_t>(owner, "process_started", 0);
}

/// Tokens of the leases in a folder, highest first.
std::vector<int64_t> tokens_in(const fs::path& folder) {
  std::vector<int64_t> tokens;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const auto name = entry.path().filename().string();
    int64_t token = 0;
    if (!name.starts_with("lease-")) continue;
    const auto [end, problem] = std::from_chars(name.data() + 6, name.data() + name.size(), token);
    if (problem == std::errc() && end == name.data() + name.size()) tokens.push_back(token);
  }
  std::sort(tokens.rbegin(), tokens.rend());
  return tokens;
}

fs::path lease_folder(const fs::path& folder, int64_t token) { return folder / fmt::format("lease-{}", token); }

/// From here on the former holders cannot publish.
void revoke_all_before(const fs::path& folder, int64_t token, const fs::path& stage) {
  std::error_code none;
  for (const auto other : tokens_in(folder)) {
    if (other >= token) continue;
    const auto grave = stage / fmt::format("revoked-{}", other);
    fs::rename(lease_folder(folder, other), grave, none);
    fs::remove_all(grave, none);
  }
  // What processes left that were killed while they asked for the lease.
  for (const auto& entry : fs::directory_iterator(folder, none))
    if (entry.path().filename().string().starts_with("claim-") && is_dead(read_owner(entry.path())))
      fs::remove_all(entry.path(), none);
}

}  // namespace

LeaseState look_at_lease(const fs::path& folder) {
  const auto tokens = tokens_in(folder);
  if (tokens.empty()) return {};
  const auto owner = read_owner(lease_folder(folder, tokens.front()));
  return {.token = tokens.front(),
          .beats = value_in<int64_t>(owner, "beats", 0),
          .seconds = value_in<double>(owner, "seconds", 0),
          .held = !value_in(owner, "released", false) && !is_dead(owner),
          .holder = fmt::format("{}, process {}", value_in<std::string>(owner, "host", "an unknown host"),
                                value_in<int64_t>(owner, "process", 0))};
}

std::unique_ptr<Lease> Lease::take(const fs::path& folder, double seconds, int64_t expired) {
  const auto state = look_at_lease(folder);
  if (state.held && state.token != expired) return nullptr;
  // Made whole beside the place, so that a lease is never without its owner's name.
  static std::atomic<int64_t> count = 0;
  auto owner = owner_of_this_process();
  const auto claim = folder / fmt::format("claim-{}-{}-{}", owner["host"].get<std::string>(), ::getpid(), ++count);
  make_folder(claim);
  owner["seconds"] = seconds;
  write_file_atomically(claim / "owner.json", owner.dump() + "\n");
  const int64_t token = state.token + 1;
  const auto stage = lease_folder(folder, token);
  std::error_code failed;
  fs::rename(claim, stage, failed);
  if (failed) {
    const bool taken = fs::exists(stage);
    std::error_code none;
    fs::remove_all(claim, none);
    if (taken) return nullptr;
    throw IoError(fmt::format("{}: cannot take the lease: {}", stage.string(), failed.message()));
  }
  if (tokens_in(folder).front() != token) {  // others came and went since we looked
    std::error_code none;
    fs::remove_all(stage, none);
    return nullptr;
  }
  revoke_all_before(folder, token, stage);
  return std::unique_ptr<Lease>(new Lease(stage, token, seconds));
}

Lease::Lease(fs::path stage, int64_t token, double seconds)
    : stage_(std::move(stage)), token_(token), seconds_(seconds), beating_([this] { beat_until_ended(); }) {}

Lease::~Lease() {
  {
    const std::lock_guard guard(mutex_);
    ended_ = true;
  }
  wake_.notify_all();
  beating_.join();
  write_owner(true);
}

void Lease::beat_until_ended() {
  // Stop signals are for the thread that does the work.
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock guard(mutex_);
  while (!wake_.wait_for(guard, std::chrono::duration<double>(seconds_ / 4), [&] { return ended_; }) && !lost_)
    if (!write_owner(false)) lost_ = !fs::exists(stage_);
}

/// Without a sync: what a power cut takes away, it takes from everybody.
bool Lease::write_owner(bool released) {
  auto owner = owner_of_this_process();
  owner["seconds"] = seconds_;
  owner["beats"] = ++beats_;
  if (released) owner["released"] = true;
  const auto fresh = stage_ / "owner.new";
  {
    std::ofstream stream(fresh);
    stream << owner.dump() << "\n";
    if (!stream.flush()) return false;
  }
  std::error_code failed;
  fs::rename(fresh, stage_ / "owner.json", failed);
  return !failed;
}

bool LeaseWatch::is_free() {
  const auto now = look_at_lease(folder_);
  const bool moved = now.token != state_.token || now.beats != state_.beats;
  state_ = now;
  if (moved) since_ = std::chrono::steady_clock::now();
  const double still = std::chrono::duration<double>(std::chrono::steady_clock::now() - since_).count();
  const bool too_long = !moved && still > (now.seconds > 0 ? now.seconds : seconds_);
  expired_ = now.held && too_long ? now.token : 0;
  return !now.held || too_long;
}

std::unique_ptr<Lease> wait_for_lease(const fs::path& folder, double seconds, const std::function<bool()>& give_up) {
  constexpr auto least_pause = std::chrono::milliseconds(5), most_pause = std::chrono::milliseconds(200);
  LeaseWatch watch(folder, seconds);
  for (auto pause = least_pause; !give_up || !give_up(); pause = std::min(2 * pause, most_pause)) {
    if (watch.is_free())
      if (auto lease = Lease::take(folder, seconds, watch.expired())) return lease;
    std::this_thread::sleep_for(pause);
  }
  return nullptr;
}

void check_stage(const fs::path& stage) {
  if (!stage.empty() && !fs::exists(stage))
    throw LeaseLost(fmt::format("{}: another process has taken this over; what was still to be written is dropped",
                                stage.parent_path().string()));
}

void write_file_through(const fs::path& stage, const fs::path& file, std::string_view content) {
  if (stage.empty()) return write_file_atomically(file, content);
  const auto made = stage / file.filename();
  try {
    write_file_atomically(made, content);
  } catch (const IoError&) {
    check_stage(stage);
    throw;
  }
  publish(stage, made, file);
}

void publish(const fs::path& stage, const fs::path& from, const fs::path& place) {
  std::error_code failed;
  fs::rename(from, place, failed);
  if (failed) {
    check_stage(stage);
    throw IoError(fmt::format("{}: cannot rename to {}: {}", from.string(), place.string(), failed.message()));
  }
  sync_folder(place.parent_path());
}

void remove_through(const fs::path& stage, const fs::path& what) {
  std::error_code failed;
  auto condemned = what;
  if (!stage.empty()) {
    condemned = stage / ("removed-" + what.filename().string());
    fs::remove_all(condemned, failed);
    fs::rename(what, condemned, failed);
    if (failed) check_stage(stage);
    if (failed == std::errc::no_such_file_or_directory) return;  // nothing there
  }
  if (!failed) fs::remove_all(condemned, failed);
  if (failed) throw IoError(fmt::format("{}: cannot remove: {}", what.string(), failed.message()));
}

}  // namespace attnscale
