#include "core/files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/error.h"

namespace attnscale {
namespace {

[[noreturn]] void fail(const std::string& action, const std::filesystem::path& file) {
  const int reason = errno;
  throw IoError(fmt::format("{}: cannot {}: {}", file.string(), action, std::strerror(reason)));
}

void write_all(int descriptor, std::string_view content, const std::filesystem::path& file) {
  while (!content.empty()) {
    const ssize_t written = ::write(descriptor, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write", file);
    content.remove_prefix(static_cast<size_t>(written));
  }
}

std::filesystem::path folder_of(const std::filesystem::path& file) {
  return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

std::string temporary_beside(const std::filesystem::path& file) {
  return file.string() + fmt::format(".tmp-{}", ::getpid());
}

/// @param file  what it stands for, which a message names
int open_temporary(const std::string& temporary, const std::filesystem::path& file) {
  const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) fail("create", file);
  return descriptor;
}

/// A descriptor that closes itself.
struct Descriptor {
  int number;
  explicit Descriptor(int opened) : number(opened) {}
  ~Descriptor() {
    if (number > STDERR_FILENO) ::close(number);
  }
  Descriptor(const Descriptor&) = delete;
};

/// Reads to the end. @throws DataError beyond `most_bytes`
std::string read_all(int descriptor, const std::filesystem::path& file, size_t most_bytes) {
  std::string content;
  char block[1 << 16];
  while (true) {
    const ssize_t count = ::read(descriptor, block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", file);
    if (count == 0) return content;
    content.append(block, static_cast<size_t>(count));
    if (content.size() > most_bytes)
      throw DataError(fmt::format("{}: holds more than {} bytes, expected at most that; is it the file you meant?",
                                  file.string(), most_bytes));
  }
}

}  // namespace

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail("open", folder);
  const int result = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  // Some network file systems cannot sync a folder and say so; the rename itself is then all there is.
  if (result != 0 && reason != EINVAL && reason != ENOTSUP) fail("fsync", folder);
}

std::string read_file(const std::filesystem::path& file) {
  const Descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (opened.number < 0) fail("open", file);
  return read_all(opened.number, file, std::string::npos);
}

std::string read_bounded(const std::filesystem::path& file, int64_t most_bytes) {
  const auto most = static_cast<size_t>(most_bytes);
  if (file == "-" || file == "/dev/stdin") return read_all(STDIN_FILENO, "standard input", most);
  // Without O_NONBLOCK, opening a named pipe would wait for its writer.
  const Descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (opened.number < 0) fail("open", file);
  struct stat status {};
  if (::fstat(opened.number, &status) != 0) fail("look at", file);
  if (!S_ISREG(status.st_mode))
    throw IoError(fmt::format("{}: is {}, expected a regular file, or - for standard input", file.string(),
                              S_ISDIR(status.st_mode) ? "a folder" : "a pipe or a device"));
  return read_all(opened.number, file, most);
}

int64_t count_lines(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return 0;
  const auto content = read_file(file);
  return std::count(content.begin(), content.end(), '\n');
}

void check_replaceable(const std::filesystem::path& file) {
  std::error_code none;
  if (std::filesystem::is_directory(file, none)) throw IoError(file.string() + ": is a folder, expected a file's name");
  const auto temporary = temporary_beside(file);
  ::close(open_temporary(temporary, file));
  ::unlink(temporary.c_str());
}

void write_file_atomically(const std::filesystem::path& file, std::string_view content) {
  const auto temporary = temporary_beside(file);
  const int descriptor = open_temporary(temporary, file);
  try {
    write_all(descriptor, content, file);
    if (::fsync(descriptor) != 0) fail("fsync", file);
  } catch (...) {
    ::close(descriptor);
    ::unlink(temporary.c_str());
    throw;
  }
  ::close(descriptor);
  if (::rename(temporary.c_str(), file.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary.c_str());
    errno = reason;
    fail("replace", file);
  }
  sync_folder(folder_of(file));
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return;
  if (folder.has_parent_path() && folder.parent_path() != folder) make_folder(folder.parent_path());
  std::filesystem::create_directory(folder, error);
  if (!error) sync_folder(folder_of(folder));  // otherwise a power cut could take the folder and what it will hold
  if (error) throw IoError(fmt::format("{}: cannot create the folder: {}", folder.string(), error.message()));
}

AppendLog::AppendLog(const std::filesystem::path& file) : file_(file) {
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("open", file);
  // Walk back from the end to the last newline; a torn line is what an unfinished write left.
  off_t end = ::lseek(descriptor_, 0, SEEK_END);
  char block[4096];
  off_t keep = end;
  bool found = end == 0;
  while (!found && keep > 0) {
    const off_t from = std::max<off_t>(0, keep - static_cast<off_t>(sizeof block));
    const ssize_t count = ::pread(descriptor_, block, static_cast<size_t>(keep - from), from);
    if (count <= 0) fail("read", file);
    ssize_t at = count;
    while (at > 0 && block[at - 1] != '\n') --at;
    keep = from + at;
    found = at > 0;
  }
  if (keep != end && ::ftruncate(descriptor_, keep) != 0) fail("cut a torn line of", file);
  ::lseek(descriptor_, keep, SEEK_SET);
}

AppendLog::~AppendLog() {
  try {
    flush();
  } catch (...) {  // a destructor cannot report; callers that need certainty call sync
  }
  ::close(descriptor_);
}

void AppendLog::append(std::string_view line) {
  buffer_.append(line);
  buffer_.push_back('\n');
  if (buffer_.size() > (1 << 16)) flush();
}

void AppendLog::flush() {
  const std::string pending = std::move(buffer_);
  buffer_.clear();
  write_all(descriptor_, pending, file_);
}

void AppendLog::sync() {
  flush();
  if (::fsync(descriptor_) != 0) fail("fsync", file_);
}

void AppendLog::truncate_to(int64_t lines) {
  flush();
  ::lseek(descriptor_, 0, SEEK_SET);
  const std::string content = read_all(descriptor_, file_, std::string::npos);
  size_t at = 0;
  for (int64_t line = 0; line < lines; ++line) {
    at = content.find('\n', at);
    if (at == std::string::npos)
      throw DataError(fmt::format("{}: holds {} lines, expected at least {}", file_.string(), line, lines));
    ++at;
  }
  if (::ftruncate(descriptor_, static_cast<off_t>(at)) != 0) fail("truncate", file_);
  ::lseek(descriptor_, static_cast<off_t>(at), SEEK_SET);
}

}  // namespace attnscale
