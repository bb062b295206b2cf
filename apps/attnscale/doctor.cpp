#include <thread>

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/version.h>
#include <unistd.h>

#include "attention/registry.h"
#include "commands.h"
#include "core/table.h"
#include "core/units.h"
#include "core/version.h"
#include "data/registry.h"
#include "train/provenance.h"

namespace attnscale {
namespace {

ExitCode doctor() {
  Table table;
  table.add_column("what");
  table.add_column("found");
  table.add_row(
      {"attnscale", fmt::format("{} ({} variants, {} sources)", version, all_variants().size(), all_sources().size())});
  table.add_row({"LibTorch", TORCH_VERSION});
  table.add_row(
      {"processor", fmt::format("{} threads, {}", std::thread::hardware_concurrency(), at::get_cpu_capability())});
  table.add_row({"memory free", bytes_text(free_memory_bytes())});
  std::error_code error;
  const auto space = std::filesystem::space(".", error);
  table.add_row({"disk free here", error ? error.message() : bytes_text(static_cast<int64_t>(space.available))});
  table.add_row({"folder writable", ::access(".", W_OK) == 0 ? "yes" : "no: give --out a folder that is"});
  table.add_row({"CUDA", at::hasCUDA() ? "yes (this version trains on the CPU)" : "no (training is on the CPU)"});
  print(table.text(200));
  return ExitCode::done;
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("doctor", "Says what this machine can do and what is missing");
  command->footer("Example: attnscale doctor");
  command->callback([&action] { action = doctor; });
}

}  // namespace attnscale
