#include <cstdlib>
#include <sstream>
#include <thread>

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/cuda.h>
#include <torch/version.h>
#include <unistd.h>

#include "attention/registry.h"
#include "commands.h"
#include "core/table.h"
#include "core/units.h"
#include "core/version.h"
#include "data/registry.h"
#include "sweep/shared_folder.h"
#include "tensor/memory.h"
#include "train/provenance.h"

namespace attnscale {
namespace {

bool on_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (::access((folder + "/" + program).c_str(), X_OK) == 0) return true;
  return false;
}

std::string allocator() {
  const auto found = allocator_in_use();
  if (found != "the C library") return found;
  return "the C library's; with tcmalloc (Debian: libtcmalloc-minimal4; then build again) training "
         "steps take 5 to 10 % less";
}

ExitCode doctor() {
  Table table;
  table.add_column("what");
  table.add_column("found");
  table.add_row(
      {"attnscale", fmt::format("{} ({} variants, {} sources)", version, all_variants().size(), all_sources().size())});
  table.add_row({"LibTorch", TORCH_VERSION});
  table.add_row(
      {"processor", fmt::format("{} threads, {}", std::thread::hardware_concurrency(), at::get_cpu_capability())});
  table.add_row({"allocator", allocator()});
  table.add_row({"memory free", bytes_text(free_memory_bytes())});
  std::error_code error;
  const auto space = std::filesystem::space(".", error);
  table.add_row({"disk free here", error ? error.message() : bytes_text(static_cast<int64_t>(space.available))});
  table.add_row({"folder writable", ::access(".", W_OK) == 0 ? "yes" : "no: give --out a folder that is"});
  table.add_row(
      {"CUDA", at::hasCUDA()
                   ? fmt::format("yes, {} devices: train.device \"cuda\", by LibTorch's operators; how fast, nobody "
                                 "measured yet (docs/reference/speed.md)",
                                 torch::cuda::device_count())
                   : "no: none is there, or this LibTorch was built without it; training is on the CPU"});
  table.add_row({"SLURM", on_path("sbatch") ? "yes: sweep --executor slurm" : "no sbatch here"});
  print(table.text(200));
  return ExitCode::done;
}

/// Whether several processes, on several hosts, can share results in a folder.
ExitCode doctor_of_folder(const std::string& folder) {
  const auto report = look_at_folder(folder);
  Table table;
  table.add_column("what");
  table.add_column("found");
  table.add_row({"file system", report.file_system + (report.network ? ", on a network" : ", of this host")});
  for (const auto& need : report.needs)
    table.add_row({need.what, need.met ? (need.found.empty() ? "yes" : "yes; " + need.found) : "no: " + need.found});
  print(table.text(200));
  if (report.network)
    print(
        "Seen from this host alone; needed too: all hosts see a rename as soon as they open the folder anew, as NFS "
        "promises unless it is mounted with nocto.\n");
  return report.good() ? ExitCode::done : ExitCode::io;
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("doctor", "Says what this machine can do and what is missing");
  auto folder = std::make_shared<std::string>();
  command->add_option("dir", *folder, "instead: whether processes of several hosts can share results in this folder");
  command->footer("Example: attnscale doctor\n         attnscale doctor /shared/results");
  command->callback([=, &action] { action = [=] { return folder->empty() ? doctor() : doctor_of_folder(*folder); }; });
}

}  // namespace attnscale
