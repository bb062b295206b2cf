#include "sweep/plan.h"

#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "bench/forecast.h"
#include "commands.h"
#include "core/table.h"
#include "core/units.h"

namespace attnscale {
namespace {

ExitCode plan(const SpecArguments& arguments, int jobs, bool timing, bool json) {
  const Plan planned = make_plan(read_spec(arguments.spec, arguments.set));
  std::optional<Forecast> expected;
  if (timing) expected = forecast(planned, jobs);
  if (json) {
    Json document = planned.to_json();
    if (expected)
      document["expected"] = {
          {"seconds", expected->seconds}, {"low", expected->low}, {"high", expected->high}, {"jobs", jobs}};
    print_json(document);
    return ExitCode::done;
  }
  print(plan_text(planned, ::isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 1000));
  if (expected)
    print(fmt::format("expected time on this machine with {} jobs: {} ({} to {})\n", jobs,
                      duration_text(expected->seconds), duration_text(expected->low), duration_text(expected->high)));
  return ExitCode::done;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("plan", "Shows the runs of a spec, their cost and the expected time; trains nothing");
  auto arguments = std::make_shared<SpecArguments>();
  auto json = std::make_shared<bool>(false);
  auto skip_timing = std::make_shared<bool>(false);
  auto jobs = std::make_shared<int>(static_cast<int>(std::thread::hardware_concurrency()));
  arguments->add_to(*command);
  command->add_option("--jobs", *jobs, "runs side by side, for the expected time")->check(CLI::Range(1, 1024));
  command->add_flag("--no-timing", *skip_timing, "do not measure this machine for the expected time");
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer("Example: attnscale plan experiments/quickstart/spec.json");
  command->callback([=, &action] { action = [=] { return plan(*arguments, *jobs, !*skip_timing, *json); }; });
}

}  // namespace attnscale
