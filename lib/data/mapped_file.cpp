#include "data/mapped_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/error.h"

namespace attnscale {
namespace {

[[noreturn]] void fail(const std::string& action, const std::filesystem::path& file, int reason) {
  throw IoError(fmt::format("{}: cannot {}: {}", file.string(), action, std::strerror(reason)));
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& file) {
  // Without O_NONBLOCK, opening a named pipe would wait for its writer.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail("open", file, errno);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw IoError(fmt::format("{}: not a regular file; give the path of a text file", file.string()));
  }
  const auto size = static_cast<size_t>(status.st_size);
  void* mapping = size == 0 ? nullptr : ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int reason = errno;
  ::close(descriptor);  // the mapping keeps the file open
  if (mapping == MAP_FAILED) fail("map", file, reason);
  if (size > 0) bytes_ = {static_cast<const char*>(mapping), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

}  // namespace attnscale
