#pragma once

#include <filesystem>
#include <string_view>

namespace attnscale {

/// A file's content mapped read-only: pages come from the disk when they are touched and are shared
/// between processes. The file must not be cut while it is mapped (the kernel would end the
/// process with SIGBUS).
class MappedFile {
 public:
  /// @throws IoError if the file cannot be opened, is not a regular file, or cannot be mapped
  explicit MappedFile(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// Whole content; empty for an empty file.
  std::string_view bytes() const { return bytes_; }

 private:
  std::string_view bytes_;
};

}  // namespace attnscale
