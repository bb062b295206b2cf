#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace attnscale {

/// What results need of a folder's file system, tried out.
struct FolderNeed {
  std::string what;  ///< `a rename is one act`
  bool met = false;
  std::string found;  ///< the system's words where it is not
};

struct FolderReport {
  std::string file_system;  ///< `nfs`, `ext4`; a number where we know no name
  bool network = false;     ///< other hosts may see it too
  std::vector<FolderNeed> needs;
  bool good() const;
};

/// Tries in a scratch folder within it, and leaves nothing. @throws IoError if nothing can be made there
FolderReport look_at_folder(const std::filesystem::path& folder);

}  // namespace attnscale
