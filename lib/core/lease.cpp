#include "core/lease.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <fstream>
#include <optional>
#include <random>
#include <utility>

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

/// Names in a folder; none if it is not there. @throws IoError if it cannot be listed
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code failed;
  for (fs::directory_iterator entry(folder, failed); !failed && entry != fs::directory_iterator();
       entry.increment(failed))
    names.push_back(entry->path().filename().string());
  if (failed && failed != std::errc::no_such_file_or_directory && failed != std::errc::not_a_directory)
    throw IoError(fmt::format("{}: cannot list the folder: {}", folder.string(), failed.message()));
  return names;
}

/// Tokens of the leases in a folder, lowest first. @throws IoError as `names_in`
std::vector<int64_t> tokens_in(const fs::path& folder) {
  std::vector<int64_t> tokens;
  for (const auto& name : names_in(folder)) {
    int64_t token = 0;
    if (!name.starts_with("lease-")) continue;
    const auto [end, problem] = std::from_chars(name.data() + 6, name.data() + name.size(), token);
    if (problem == std::errc() && end == name.data() + name.size()) tokens.push_back(token);
  }
  std::sort(tokens.begin(), tokens.end());
  return tokens;
}

fs::path lease_folder(const fs::path& folder, int64_t token) { return folder / fmt::format("lease-{}", token); }

/// Whether the file system says that nothing is there. One that does not answer (EIO, ESTALE) has not said so.
bool is_gone(const fs::path& path) {
  std::error_code none;
  return fs::status(path, none).type() == fs::file_type::not_found;
}

std::string new_stage_name() {
  std::random_device random;
  return fmt::format("stage-{:08x}{:08x}", random(), random());
}

/// From here on the former holders cannot publish. Lowest first, as `is_next` needs it. @throws IoError
void revoke_all_before(const fs::path& folder, int64_t token, const fs::path& stage) {
  std::error_code none;
  for (const auto other : tokens_in(folder)) {
    if (other >= token) continue;
    const auto grave = stage / fmt::format("revoked-{}", other);
    std::error_code failed;
    fs::rename(lease_folder(folder, other), grave, failed);
    if (failed && failed != std::errc::no_such_file_or_directory)
      throw IoError(
          fmt::format("{}: cannot revoke the lease: {}", lease_folder(folder, other).string(), failed.message()));
    fs::remove_all(grave, none);
  }
  // What processes left that were killed while they asked for the lease.
  for (const auto& name : names_in(folder))
    if (name.starts_with("claim-") && is_dead(read_owner(folder / name))) fs::remove_all(folder / name, none);
}

/// Whether a lease just made is the next after `before`, and not one whose holder came and went since we looked, which
/// makes its name free again: then a higher one is there, and the one before is gone.
bool is_next(const fs::path& folder, int64_t token, int64_t before) {
  const auto tokens = tokens_in(folder);
  return !tokens.empty() && tokens.back() == token && (before == 0 || !is_gone(lease_folder(folder, before)));
}

}  // namespace

LeaseState look_at_lease(const fs::path& folder) {
  const auto tokens = tokens_in(folder);
  if (tokens.empty()) return {};
  const auto owner = read_owner(lease_folder(folder, tokens.back()));
  return {.token = tokens.back(),
          .beats = value_in<int64_t>(owner, "beats", 0),
          .seconds = value_in<double>(owner, "seconds", 0),
          .held = !value_in(owner, "released", false) && !is_dead(owner),
          .here = value_in<std::string>(owner, "host_key", "") == host_key(),
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
  const auto stage_name = new_stage_name();
  make_folder(claim);
  std::error_code failed, none;
  if (!fs::create_directory(claim / stage_name, failed))
    throw IoError(fmt::format("{}: cannot create the folder: {}", (claim / stage_name).string(), failed.message()));
  owner["seconds"] = seconds;
  write_file_atomically(claim / "owner.json", owner.dump() + "\n");
  const int64_t token = state.token + 1;
  const auto place = lease_folder(folder, token);
  fs::rename(claim, place, failed);
  if (failed) {
    fs::remove_all(claim, none);
    if (failed == std::errc::directory_not_empty || failed == std::errc::file_exists) return nullptr;
    throw IoError(fmt::format("{}: cannot take the lease: {}", place.string(), failed.message()));
  }
  std::unique_ptr<Lease> lease(new Lease(place / stage_name, token, seconds));  // which gives it back in any case
  if (!is_next(folder, token, state.token)) {
    lease.reset();
    fs::remove_all(place, none);
    return nullptr;
  }
  revoke_all_before(folder, token, lease->stage());
  return lease;
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
  std::error_code none;
  fs::remove_all(stage_, none);
}

void Lease::beat_until_ended() {
  // Stop signals are for the thread that does the work.
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock guard(mutex_);
  while (!wake_.wait_for(guard, std::chrono::duration<double>(seconds_ / 4), [&] { return ended_; }) && !lost_)
    if (!write_owner(false)) lost_ = is_gone(stage_);
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
  fs::rename(fresh, stage_.parent_path() / "owner.json", failed);
  return !failed;
}

bool LeaseWatch::is_free() {
  const auto now = look_at_lease(folder_);
  const bool moved = now.token != state_.token || now.beats != state_.beats;
  state_ = now;
  if (moved) since_ = std::chrono::steady_clock::now();
  moved_ |= moved && looked_;
  looked_ = true;
  const double still = std::chrono::duration<double>(std::chrono::steady_clock::now() - since_).count();
  const bool too_long = !moved && still > (now.seconds > 0 ? now.seconds : seconds_);
  expired_ = now.held && too_long ? now.token : 0;
  return !now.held || too_long;
}

std::unique_ptr<Lease> wait_for_lease(const fs::path& folder, double seconds, const std::function<bool()>& give_up,
                                      const std::function<void(const LeaseState&)>& waits) {
  constexpr auto least_pause = std::chrono::milliseconds(5), most_pause = std::chrono::milliseconds(200);
  LeaseWatch watch(folder, seconds);
  bool told = false;
  for (auto pause = least_pause; !give_up || !give_up(); pause = std::min(2 * pause, most_pause)) {
    if (watch.is_free())
      if (auto lease = Lease::take(folder, seconds, watch.expired())) return lease;
    if (!std::exchange(told, true) && waits) waits(watch.state());
    std::this_thread::sleep_for(pause);
  }
  return nullptr;
}

void check_stage(const fs::path& stage) {
  if (!stage.empty() && is_gone(stage))
    throw LeaseLost(fmt::format("{}: another process has taken this over; what was still to be written is dropped",
                                stage.parent_path().parent_path().string()));
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
