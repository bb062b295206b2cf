#include "report/report.h"

#include <iostream>

#include "commands.h"
#include "finish.h"

namespace attnscale {
namespace {

ExitCode report(const std::string& folder) {
  write_scaling(folder);
  const auto files = write_report(folder);
  for (const auto& note : files.notes) std::cerr << note << "\n";
  print(files.html.string() + "\n");
  return ExitCode::done;
}

ExitCode export_table(const std::string& folder, const std::string& format) {
  print(export_rows(folder, format));
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
  auto* command = app.add_subcommand("export", "Prints the runs of a sweep as a table for other programs");
  auto folder = std::make_shared<std::string>();
  auto format = std::make_shared<std::string>("csv");
  command->add_option("dir", *folder, "folder of a sweep")->required();
  command->add_option("--format", *format, "csv or jsonl")
      ->check(CLI::IsMember({"csv", "jsonl"}))
      ->capture_default_str();
  command->footer("Example: attnscale export results/quickstart --format csv > runs.csv");
  command->callback([=, &action] { action = [=] { return export_table(*folder, *format); }; });
}

}  // namespace attnscale
