#include "sweep/why.h"

#include <fmt/format.h>

#include "commands.h"

namespace attnscale {
namespace {

ExitCode why(const std::string& text, bool json) {
  const auto run = run_argument(text);
  const auto sweep = run.parent_path().parent_path();
  const auto id = run.filename().string();
  const Json plan = read_json(sweep / "plan.json").value;
  RunReason found{id, "kept", "is not in the plan of this folder's last sweep, and left out of its results", ""};
  for (const auto& reason : explain(sweep, plan)) {
    if (reason.id == id) found = reason;
    else if (reason.before == id) found.reason += fmt::format("; {} has its place now: {}", reason.id, reason.reason);
  }
  if (json) print_json({{"id", id}, {"state", found.state}, {"reason", found.reason}});
  else print(fmt::format("{}: {}: {}\n", id, found.state, found.reason));
  return ExitCode::done;
}

}  // namespace

void add_why(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("why", "Says what the next sweep would do with a run, and why");
  auto run = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("run", *run, "a run: its folder, or DIR/ID with the first letters of its id")->required();
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer("Example: attnscale why results/quickstart/0c5d\nAll runs of a spec: attnscale plan SPEC --why");
  command->callback([=, &action] { action = [=] { return why(*run, *json); }; });
}

}  // namespace attnscale
