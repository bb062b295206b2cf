#include "sweep/shared_folder.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/files.h"
#include "core/lease.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

struct Known {
  const char* name;
  bool network;
};

/// By f_type of statfs(2) and linux/magic.h.
const std::map<uint32_t, Known> known_file_systems = {
    {0x6969, {"nfs", true}},          {0xff534d42, {"cifs", true}},  {0xfe534d42, {"smb2", true}},
    {0x517b, {"smb", true}},          {0x01021997, {"9p", true}},    {0x65735546, {"fuse", true}},
    {0x0bd00bd0, {"lustre", true}},   {0x47504653, {"gpfs", true}},  {0x19830326, {"beegfs", true}},
    {0x00c36400, {"ceph", true}},     {0x5346414f, {"afs", true}},   {0x7461636f, {"ocfs2", true}},
    {0x01161970, {"gfs2", true}},     {0xef53, {"ext4", false}},     {0x58465342, {"xfs", false}},
    {0x9123683e, {"btrfs", false}},   {0x2fc12fc1, {"zfs", false}},  {0x01021994, {"tmpfs", false}},
    {0x794c7630, {"overlay", false}}, {0xf2f52010, {"f2fs", false}}, {0x4d44, {"vfat", false}},
};

/// A folder that goes with its owner.
struct Scratch {
  fs::path path;
  explicit Scratch(const fs::path& folder) : path(folder / fmt::format(".doctor-{}", ::getpid())) { make_folder(path); }
  ~Scratch() {
    std::error_code none;
    fs::remove_all(path, none);
  }
  Scratch(const Scratch&) = delete;
};

std::string why() { return std::strerror(errno); }

FolderNeed rename_replaces(const fs::path& at) {
  FolderNeed need{"a rename replaces a file in one act", false, ""};
  write_file_atomically(at / "new", "new");
  write_file_atomically(at / "old", "old");
  need.met = ::rename((at / "new").c_str(), (at / "old").c_str()) == 0 && read_file(at / "old") == "new";
  if (!need.met) need.found = why();
  return need;
}

FolderNeed rename_spares_full_folders(const fs::path& at) {
  FolderNeed need{"a rename does not replace a folder that holds something", false, ""};
  for (const auto* name : {"claim", "held"}) {
    make_folder(at / name);
    write_file_atomically(at / name / "owner", name);
  }
  const int result = ::rename((at / "claim").c_str(), (at / "held").c_str());
  need.met = result != 0 && (errno == ENOTEMPTY || errno == EEXIST) && read_file(at / "held" / "owner") == "held";
  if (!need.met) need.found = result == 0 ? "it was replaced: two processes could take one run" : why();
  return need;
}

FolderNeed rename_revokes(const fs::path& at) {
  FolderNeed need{"what lay in a folder that was renamed cannot be published by its old name", false, ""};
  make_folder(at / "stage");
  write_file_atomically(at / "stage" / "late", "late");
  if (::rename((at / "stage").c_str(), (at / "revoked").c_str()) != 0) need.found = why();
  else if (::rename((at / "stage" / "late").c_str(), (at / "published").c_str()) == 0) need.found = "it could";
  else need.met = true;
  return need;
}

FolderNeed open_file_survives(const fs::path& at) {
  FolderNeed need{"what is appended to a file that was replaced does not reach the new one", false, ""};
  AppendLog log(at / "log");
  log.append("first");
  log.sync();
  write_file_atomically(at / "log", "second\n");
  try {
    log.append("late");
    log.sync();
  } catch (const std::exception&) {  // some network file systems refuse it, which is as good
  }
  need.met = read_file(at / "log") == "second\n";
  if (!need.met) need.found = "it did: two processes could mix their logs";
  return need;
}

FolderNeed sync_works(const fs::path& at) {
  FolderNeed need{"fsync of files and folders", false, ""};
  const int file = ::open((at / "synced").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  need.met = file >= 0 && ::fsync(file) == 0;
  if (!need.met) need.found = why();
  if (file >= 0) ::close(file);
  const int folder = ::open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0 || ::fsync(folder) != 0)
    need.found += (need.found.empty() ? "of folders not (" : "; of folders not (") + why() +
                  "): after a power cut the newest names may be missing";
  if (folder >= 0) ::close(folder);
  return need;
}

FolderNeed leases_work(const fs::path& at) {
  FolderNeed need{"a lease is one process's, and is followed", false, ""};
  make_folder(at / "run");
  auto first = Lease::take(at / "run", 60);
  const bool one = first && !Lease::take(at / "run", 60);
  first.reset();
  need.met = one && Lease::take(at / "run", 60);
  if (!need.met) need.found = "no";
  return need;
}

}  // namespace

bool FolderReport::good() const {
  return std::all_of(needs.begin(), needs.end(), [](const FolderNeed& need) { return need.met; });
}

FolderReport look_at_folder(const fs::path& folder) {
  FolderReport report;
  struct statfs status {};
  if (::statfs(folder.c_str(), &status) != 0)
    throw IoError(fmt::format("{}: cannot look at its file system: {}", folder.string(), why()));
  const auto type = static_cast<uint32_t>(status.f_type);
  const auto known = known_file_systems.find(type);
  report.file_system = known != known_file_systems.end() ? known->second.name : fmt::format("type 0x{:x}", type);
  report.network = known != known_file_systems.end() && known->second.network;
  const Scratch scratch(folder);
  for (const auto& check :
       {rename_replaces, rename_spares_full_folders, rename_revokes, open_file_survives, sync_works, leases_work})
    report.needs.push_back(check(scratch.path));
  return report;
}

}  // namespace attnscale
