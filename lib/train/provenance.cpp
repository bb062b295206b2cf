#include "train/provenance.h"

#include <chrono>
#include <fstream>

#include <sys/resource.h>
#include <unistd.h>

#include <ATen/Parallel.h>
#include <fmt/chrono.h>
#include <torch/version.h>

#include "core/files.h"
#include "core/version.h"
#include "tensor/kernels/kernels.h"

namespace attnscale {
namespace {

/// Host names and command lines are bytes; JSON holds valid UTF-8 only.
std::string as_utf8(const std::string& bytes) {
  return Json::parse(Json(bytes).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name"))
      if (const auto colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
  return "unknown";
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string command;
  for (std::string word; std::getline(file, word, '\0');) command += (command.empty() ? "" : " ") + word;
  return command;
}

std::string compiler_name() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

}  // namespace

std::string build_commit() {
#ifdef ATTNSCALE_COMMIT
  return ATTNSCALE_COMMIT;
#else
  return "unknown";
#endif
}

std::string utc_now() {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", seconds);
}

Json provenance() {
  return {{"version", version},           {"commit", build_commit()},
          {"compiler", compiler_name()},  {"torch", TORCH_VERSION},
          {"cpu", processor_name()},      {"threads", at::get_num_threads()},
          {"host", as_utf8(host_name())}, {"command", as_utf8(command_line())},
          {"kernels", kernels_in_use()}};
}

int64_t memory_limit_bytes() {
  int64_t limit = static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  std::ifstream group("/sys/fs/cgroup/memory.max");
  if (int64_t bytes = 0; group >> bytes && bytes > 0)
    limit = std::min(limit, bytes);  // "max" does not read as a number
  return limit;
}

int64_t free_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  for (std::string unit; file >> key >> kib; std::getline(file, unit))
    if (key == "MemAvailable:") return std::min(kib * 1024, memory_limit_bytes());
  return memory_limit_bytes();
}

int64_t peak_memory_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace attnscale
