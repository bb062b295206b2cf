#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

/// A folder of a test's own, gone with it.
struct ScratchFolder {
  std::filesystem::path path;
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "attnscale-test-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path / name; }
};
