#include "sweep/worker.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/error.h"

namespace attnscale {
namespace {

/// Idle workers leave at once when their input closes; one that does not is stuck, and has nothing to lose.
constexpr auto time_to_leave = std::chrono::seconds(5);

}  // namespace

Worker::Worker(const std::filesystem::path& program, int threads) {
  int to[2], from[2];
  if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0)
    throw IoError(fmt::format("cannot make pipes for a worker: {}", std::strerror(errno)));
  const auto name = program.string();
  const auto thread_text = std::to_string(threads);
  const pid_t parent = ::getpid();
  process_ = ::fork();
  if (process_ < 0) throw IoError(fmt::format("cannot start a worker: {}", std::strerror(errno)));
  if (process_ == 0) {
    // Only async-signal-safe calls until exec. A group of its own keeps the terminal's Ctrl-C away:
    // the parent passes it on as a request to stop.
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::dup2(to[0], STDIN_FILENO);
    ::dup2(from[1], STDOUT_FILENO);
    ::setenv("OMP_NUM_THREADS", thread_text.c_str(), 1);
    ::setenv("MKL_NUM_THREADS", thread_text.c_str(), 1);
    ::execl(name.c_str(), name.c_str(), "worker", "--threads", thread_text.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(to[0]);
  ::close(from[1]);
  to_ = to[1];
  from_ = from[0];
  ::fcntl(from_, F_SETFL, O_NONBLOCK);
}

Worker::~Worker() {
  if (to_ >= 0) ::close(to_);
  if (from_ >= 0) ::close(from_);
  if (process_ > 0) {
    // Idle workers leave when their input closes; one still at work is stopped.
    if (!run_id.empty()) kill();
    const auto deadline = std::chrono::steady_clock::now() + time_to_leave;
    while (::waitpid(process_, nullptr, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() >= deadline) kill();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

bool Worker::is_stopped() const {
  // `123 (name) T ...`: the name may hold anything, so the state is what follows the last parenthesis.
  std::ifstream file(fmt::format("/proc/{}/stat", process_));
  std::string line;
  std::getline(file, line);
  const auto end = line.rfind(") ");
  return end != std::string::npos && (line[end + 2] == 'T' || line[end + 2] == 't');
}

double Worker::silent_seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - heard_).count();
}

void Worker::kill() {
  if (process_ > 0) ::kill(process_, SIGKILL);
}

void Worker::start(const std::filesystem::path& run_folder, const Json& config, double lease_seconds,
                   int64_t expired_lease, const Json& stopping) {
  const auto line = Json{{"folder", run_folder.string()},
                         {"config", config},
                         {"lease_seconds", lease_seconds},
                         {"expired_lease", expired_lease},
                         {"stopping", stopping}}
                        .dump() +
                    "\n";
  heard_ = std::chrono::steady_clock::now();
  lease = 0;
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = ::write(to_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return;  // the worker is gone; `read` will say so
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

std::vector<Json> Worker::read() {
  char block[1 << 14];
  while (true) {
    const ssize_t count = ::read(from_, block, sizeof block);
    if (count > 0) {
      longest_silence_ = std::max(longest_silence_, silent_seconds());
      heard_ = std::chrono::steady_clock::now();
      pending_.append(block, static_cast<size_t>(count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) closed_ = true;
    break;
  }
  std::vector<Json> lines;
  size_t begin = 0;
  for (size_t newline; (newline = pending_.find('\n', begin)) != std::string::npos; begin = newline + 1) {
    auto line = Json::parse(pending_.begin() + static_cast<std::ptrdiff_t>(begin),
                            pending_.begin() + static_cast<std::ptrdiff_t>(newline), nullptr, false);
    if (line.is_object()) lines.push_back(std::move(line));
  }
  pending_.erase(0, begin);
  return lines;
}

void Worker::ask_to_stop() {
  if (process_ > 0) ::kill(process_, SIGTERM);
}

std::string Worker::end() {
  int status = 0;
  ::waitpid(process_, &status, 0);
  process_ = -1;
  if (WIFSIGNALED(status))
    return fmt::format("killed by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  if (WEXITSTATUS(status) == 127) return "the program could not be started";
  return fmt::format("ended with exit status {}", WEXITSTATUS(status));
}

}  // namespace attnscale
