#include "sweep/fsck.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "commands.h"

namespace attnscale {
namespace {

ExitCode fsck(const std::string& folder, bool json) {
  const auto report = check_folder(folder);
  if (json) print_json(report.to_json());
  else {
    int64_t damaged = 0;
    for (const auto& finding : report.findings) {
      damaged += finding.damage;
      // Most problems begin with the file that they are about.
      const auto place = finding.place.string();
      const bool named = finding.problem.find(place) != std::string::npos;
      print(fmt::format("{}{}{}\n  repair: {}\n", finding.damage ? "" : "note: ", named ? "" : place + ": ",
                        finding.problem, finding.repair));
    }
    if (report.at_work > 0)
      print(fmt::format("at work, and not checked: {} of the runs, by {}\n", report.at_work,
                        fmt::join(report.workers, "; ")));
    print(fmt::format("{} runs ({} finished), {} checkpoints: {}\n", report.runs, report.finished, report.checkpoints,
                      damaged == 0 ? "clean" : fmt::format("{} damaged", damaged)));
  }
  return report.clean() ? ExitCode::done : ExitCode::bad_input;
}

}  // namespace

void add_fsck(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("fsck", "Checks every file of a results folder, says what is damaged and the repair");
  auto folder = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("dir", *folder, "folder of a sweep")->required();
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer(
      "Example: attnscale fsck results/quickstart\nExit status: 0 clean, 65 something is damaged. Changes nothing.");
  command->callback([=, &action] { action = [=] { return fsck(*folder, *json); }; });
}

}  // namespace attnscale
