#include "report/report.h"

#include <iostream>

#include <fmt/format.h>
#include <unistd.h>

#include "commands.h"
#include "core/files.h"
#include "finish.h"
#include "report/export_table.h"

namespace attnscale {
namespace {

ExitCode report(const std::string& folder) {
  write_scaling(folder);
  const auto files = write_report(folder);
  for (const auto& note : files.notes) std::cerr << note << "\n";
  print(files.html.string() + "\n");
  return ExitCode::done;
}

struct ExportArguments {
  std::string folder, format = "csv", table = "runs", out;
};

[[noreturn]] void wrong(const std::string& message) { throw Error(message, ExitCode::usage); }

ExitCode export_table(const ExportArguments& arguments) {
  const bool curves = arguments.table == "curves";
  if (arguments.format == "tensorboard") {
    if (arguments.out.empty()) wrong("--format tensorboard writes a folder of event files; name it with --out");
    if (curves) wrong("--table curves: tensorboard always shows curves; leave it out");
    const auto runs = export_tensorboard(arguments.folder, arguments.out);
    if (runs == 0) throw DataError(arguments.folder + ": has no run with a log.jsonl");
    std::cerr << fmt::format("{} runs; show them with: tensorboard --logdir {}\n", runs, arguments.out);
    return ExitCode::done;
  }
  const bool binary = arguments.format == "parquet" || arguments.format == "npy";
  if (binary && arguments.out.empty() && ::isatty(STDOUT_FILENO))
    wrong(fmt::format("--format {} is binary, which a terminal cannot show; name a file with --out", arguments.format));
  const auto content = export_rows(arguments.folder, arguments.format, curves);
  if (arguments.out.empty()) print(content);
  else write_file_atomically(arguments.out, content);
  return ExitCode::done;
}

}  // namespace

void add_report(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("report", "Fits a sweep's folder again and writes scaling.json, report.html and figures");
  auto folder = std::make_shared<std::string>();
  command->add_option("dir", *folder, "folder of a sweep")->required();
  command->footer("Example: attnscale report results/quickstart");
  command->callback([=, &action] { action = [=] { return report(*folder); }; });
}

void add_export(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("export", "Writes a sweep's runs as a table for other programs");
  auto arguments = std::make_shared<ExportArguments>();
  command->add_option("dir", arguments->folder, "folder of a sweep")->required();
  command->add_option("--format", arguments->format, "csv, jsonl, parquet, npy or tensorboard")
      ->check(CLI::IsMember({"csv", "jsonl", "parquet", "npy", "tensorboard"}))
      ->capture_default_str();
  command->add_option("--table", arguments->table, "runs (a row for each), or curves (a row for each evaluation)")
      ->check(CLI::IsMember({"runs", "curves"}))
      ->capture_default_str();
  command->add_option("--out", arguments->out, "file, or folder for tensorboard (default: standard output)")
      ->type_name("PATH");
  command->footer(
      "Example: attnscale export results/quickstart --format parquet --out runs.parquet\n"
      "Then: pandas.read_parquet('runs.parquet'). The columns: docs/reference/exports.md");
  command->callback([=, &action] { action = [=] { return export_table(*arguments); }; });
}

}  // namespace attnscale
