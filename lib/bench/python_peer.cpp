#include "bench/python_peer.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/error.h"

namespace attnscale {

PythonPeer::PythonPeer(const std::string& python, const std::string& script, int threads,
                       std::map<std::string, std::string> environment)
    : python_(python) {
  int to[2], from[2];
  // A socket, since writing to one that was closed can be told not to raise a signal.
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to) != 0 || ::pipe2(from, O_CLOEXEC) != 0)
    throw IoError(fmt::format("cannot make pipes for {}: {}", python, std::strerror(errno)));
  for (const auto* name : {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}) environment[name] = std::to_string(threads);
  const pid_t parent = ::getpid();
  process_ = ::fork();
  if (process_ < 0) throw IoError(fmt::format("cannot start {}: {}", python, std::strerror(errno)));
  if (process_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::dup2(to[1], STDIN_FILENO);
    ::dup2(from[1], STDOUT_FILENO);
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
    ::execlp(python.c_str(), python.c_str(), "-c", script.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(to[1]);
  ::close(from[1]);
  to_ = to[0];
  from_ = from[0];
}

PythonPeer::~PythonPeer() {
  ::close(to_);
  ::close(from_);
  ::kill(process_, SIGKILL);  // it holds nothing that anyone misses
  ::waitpid(process_, nullptr, 0);
}

std::string PythonPeer::read_line() {
  char block[1 << 12];
  while (pending_.find('\n') == std::string::npos) {
    const ssize_t count = ::read(from_, block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      throw ConfigError(fmt::format(
          "--against python: \"{}\" ended without an answer; --python names an interpreter that has torch", python_));
    pending_.append(block, static_cast<size_t>(count));
  }
  const auto end = pending_.find('\n');
  const auto line = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  return line;
}

Json PythonPeer::ask(const Json& question) {
  const auto line = question.dump() + "\n";
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = ::send(to_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) break;  // it is gone; reading will say so
    rest.remove_prefix(static_cast<size_t>(written));
  }
  const auto reply = read_line();
  const Json answer = Json::parse(reply, nullptr, /*allow_exceptions=*/false);
  if (answer.is_discarded())
    throw ConfigError(fmt::format("--against python: \"{}\" answered \"{}\", which is not JSON", python_, reply));
  if (answer.contains("error"))
    throw ConfigError(fmt::format("--against python: \"{}\": {}; --python names an interpreter that has torch", python_,
                                  answer["error"].get<std::string>()));
  return answer;
}

}  // namespace attnscale
