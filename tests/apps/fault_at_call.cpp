// Runs a command and makes one of its system calls go wrong: what a kill -9, a full disk or a broken one does there.
//
//   fault_at_call --below DIR [--calls write,fsync] [--number N --do kill|ENOSPC|EIO] [--report FILE] -- COMMAND...
//
// Counts, over all processes and threads that the command starts, the calls that change what the disk or another process
// has (DISK_CALLS), and opens that create, write, or lie below DIR. At the Nth one kills the process that makes it, before
// it is made, or lets it fail with an error; a full disk stays full. Only calls on files below DIR can fail so.
// FILE then holds, as JSON, how many there were of each and which the Nth was.
// Exit status: the command's; 128 + signal if it was killed; 125 if it cannot be traced. Linux on x86-64.
//
// strace counts for each process by itself, so that what a second process does first is never met; and it stops at
// every call. Here a filter in the kernel (seccomp) stops at the calls that count, in all processes.

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

const std::map<std::string, long> DISK_CALLS = {
    {"write", SYS_write},         {"pwrite64", SYS_pwrite64},   {"writev", SYS_writev},
    {"fsync", SYS_fsync},         {"fdatasync", SYS_fdatasync}, {"ftruncate", SYS_ftruncate},
    {"rename", SYS_rename},       {"renameat", SYS_renameat},   {"renameat2", SYS_renameat2},
    {"open", SYS_open},           {"openat", SYS_openat},       {"creat", SYS_creat},
    {"unlink", SYS_unlink},       {"unlinkat", SYS_unlinkat},   {"rmdir", SYS_rmdir},
    {"mkdir", SYS_mkdir},         {"mkdirat", SYS_mkdirat},     {"link", SYS_link},
    {"linkat", SYS_linkat},       {"symlink", SYS_symlink},     {"copy_file_range", SYS_copy_file_range},
    {"sendfile", SYS_sendfile}};

struct Options {
  std::string below, report;
  std::set<std::string> calls;  ///< empty: all
  long number = 0;
  int error = 0;  ///< 0: kill
  char** command = nullptr;
};

[[noreturn]] void fail(const std::string& what) {
  std::cerr << "fault_at_call: " << what << "\n";
  std::exit(125);
}

Options read_options(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string name = arguments[i];
    if (name == "--") {
      options.command = arguments + i + 1;
      break;
    }
    if (i + 1 == count) fail(name + " lacks its value");
    const std::string value = arguments[++i];
    if (name == "--below") options.below = value;
    else if (name == "--report") options.report = value;
    else if (name == "--number") options.number = std::stol(value);
    else if (name == "--calls") {
      std::stringstream list(value);
      for (std::string call; std::getline(list, call, ',');)
        if (DISK_CALLS.contains(call)) options.calls.insert(call);
        else fail("unknown call " + call);
    } else if (name == "--do") {
      if (value != "kill" && value != "ENOSPC" && value != "EIO") fail("--do takes kill, ENOSPC or EIO");
      options.error = value == "ENOSPC" ? ENOSPC : value == "EIO" ? EIO : 0;
    } else {
      fail("unknown option " + name);
    }
  }
  if (!options.command || !*options.command) fail("no command behind --");
  return options;
}

/// In the child: the kernel stops it, and whatever it starts, at these calls.
void stop_at_calls() {
  std::vector<sock_filter> filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const auto& [name, number] : DISK_CALLS) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    std::_Exit(125);
}

std::string text_at(pid_t process, unsigned long address) {
  std::string text(512, '\0');
  iovec here = {text.data(), text.size()}, there = {reinterpret_cast<void*>(address), text.size()};
  ssize_t count = ::process_vm_readv(process, &here, 1, &there, 1, 0);
  if (count < 0) {  // the page behind it may not be there
    there.iov_len = here.iov_len = std::min<size_t>(512, 4096 - address % 4096);
    count = ::process_vm_readv(process, &here, 1, &there, 1, 0);
  }
  return count < 0 ? "" : std::string(text.c_str());
}

class Tracer {
 public:
  explicit Tracer(const Options& options) : options_(options) {
    for (const auto& [name, number] : DISK_CALLS) names_[number] = name;
  }

  int run() {
    const pid_t root = ::fork();
    if (root < 0) fail(std::strerror(errno));
    if (root == 0) {
      if (::ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) std::_Exit(125);
      ::raise(SIGSTOP);
      stop_at_calls();
      ::execvp(options_.command[0], options_.command);
      std::_Exit(127);
    }
    int status = 0;
    ::waitpid(root, &status, 0);
    const long follow = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                        PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (!WIFSTOPPED(status) || ::ptrace(PTRACE_SETOPTIONS, root, 0, follow) != 0) fail("may not trace here");
    known_.insert(root);
    ::ptrace(PTRACE_CONT, root, 0, 0);
    int result = 125;
    for (pid_t process; (process = ::waitpid(-1, &status, __WALL)) > 0;) {
      if (WIFSTOPPED(status)) go_on(process, status);
      else if (process == root) result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    return result;
  }

  void report() const {
    if (options_.report.empty()) return;
    std::ofstream file(options_.report);
    long total = 0;
    file << "{\"calls\": {";
    for (const auto& [name, count] : counts_) {
      file << (total ? ", " : "") << '"' << name << "\": " << count;
      total += count;
    }
    file << "}, \"total\": " << total << ", \"fault\": \"" << fault_ << "\"}\n";
  }

 private:
  void go_on(pid_t process, int status) {
    const int stopped_by = WSTOPSIG(status), event = status >> 16;
    long deliver = 0;
    if (event == PTRACE_EVENT_SECCOMP) at_call(process);
    else if (event == 0 && stopped_by == SIGSTOP && known_.insert(process).second) deliver = 0;  // a new process stops so
    else if (event == 0 && stopped_by != SIGTRAP) deliver = stopped_by;
    ::ptrace(PTRACE_CONT, process, 0, deliver);
  }

  bool counts(pid_t process, const std::string& name, const user_regs_struct& regs, std::string& what) const {
    if (!options_.calls.empty() && !options_.calls.contains(name)) return false;
    if (name == "write" || name == "pwrite64" || name == "writev" || name == "fsync") {
      std::error_code none;  // pipes are no paths
      const auto file = std::filesystem::read_symlink(
          "/proc/" + std::to_string(process) + "/fd/" + std::to_string(static_cast<int>(regs.rdi)), none);
      what = name + " " + file.string();
      return options_.error == 0 || file.string().starts_with(options_.below);
    }
    if (name != "open" && name != "openat") return true;
    const bool at = name == "openat";
    const auto path = text_at(process, at ? regs.rsi : regs.rdi);
    const auto flags = at ? regs.rdx : regs.rsi;
    what = name + " " + path;
    if (options_.error == ENOSPC && !(flags & O_CREAT)) return false;
    if (flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC)) return path != "/dev/null" && !path.starts_with("/proc/");
    return !path.empty() && (path[0] != '/' || path.starts_with(options_.below));
  }

  void at_call(pid_t process) {
    user_regs_struct regs{};
    if (::ptrace(PTRACE_GETREGS, process, 0, &regs) != 0) return;
    const auto found = names_.find(static_cast<long>(regs.orig_rax));
    if (found == names_.end()) return;
    std::string what = found->second;
    if (!counts(process, found->second, regs, what)) return;
    ++counts_[found->second];
    if (options_.number == 0 || ++count_ < options_.number) return;
    if (count_ > options_.number && options_.error != ENOSPC) return;
    if (count_ == options_.number)
      for (const char c : what)
        if (c >= ' ' && c != '"' && c != '\\') fault_ += c;
    if (options_.error == 0) {
      ::kill(process, SIGKILL);
      return;
    }
    regs.orig_rax = static_cast<unsigned long>(-1);  // no call is made; this is what it returned
    regs.rax = static_cast<unsigned long>(-options_.error);
    ::ptrace(PTRACE_SETREGS, process, 0, &regs);
  }

  const Options& options_;
  std::map<long, std::string> names_;
  std::map<std::string, long> counts_;
  std::set<pid_t> known_;
  std::string fault_;
  long count_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
  const auto options = read_options(count, arguments);
  Tracer tracer(options);
  const int status = tracer.run();
  tracer.report();
  return status;
}
