#pragma once

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include <fmt/format.h>

#include "core/error.h"

namespace attnscale {

/// A new folder among the machine's temporary ones, `attnscale-PURPOSE-` and what no other has; gone with its owner.
class ScratchFolder {
 public:
  /// @throws IoError if it cannot be made
  explicit ScratchFolder(const std::string& purpose = "test") {
    auto name = (std::filesystem::temp_directory_path() / fmt::format("attnscale-{}-XXXXXX", purpose)).string();
    if (::mkdtemp(name.data()) == nullptr)
      throw IoError(fmt::format("{}: cannot make a temporary folder: {}", name, std::strerror(errno)));
    path = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path / name; }

  std::filesystem::path path;
};

}  // namespace attnscale
