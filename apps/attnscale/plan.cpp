#include "sweep/plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include "bench/forecast.h"
#include "commands.h"
#include "core/table.h"
#include "core/units.h"
#include "propose.h"
#include "sweep/store.h"
#include "sweep/why.h"

namespace attnscale {
namespace {

/// How far the folder's sweep is, and by which builds; empty if it has no results.
std::string done_text(const Plan& planned, const std::filesystem::path& folder) {
  const auto rows = peek_results(folder, planned);
  if (rows.empty()) return "";
  return fmt::format("{} of {} runs are done already in {}\n", rows.size(), planned.runs.size(), folder.string()) +
         other_builds_text(rows, planned.runs.size());
}

/// A line per run: what the next sweep would do with it.
std::string why_text(const std::vector<RunReason>& reasons) {
  Table table;
  for (const auto* title : {"run", "state", "why"}) table.add_column(title);
  std::map<std::string, int64_t> counts;
  for (const auto& reason : reasons) {
    table.add_row({reason.id.substr(0, 8), reason.state, reason.reason});
    ++counts[reason.state];
  }
  std::string text;
  for (const auto& [state, count] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, state);
  return table.text(::isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 1000) + text + "\n";
}

ExitCode plan_why(const SpecArguments& arguments, const std::string& out, bool json) {
  const Plan planned = make_plan(read_spec(arguments.spec, arguments.set));
  const auto reasons = explain(folder_for(out, planned), planned.to_json());
  if (!json) {
    print(why_text(reasons));
    return ExitCode::done;
  }
  Json list = Json::array();
  for (const auto& reason : reasons) {
    list.push_back({{"id", reason.id}, {"state", reason.state}, {"reason", reason.reason}});
    if (!reason.before.empty()) list.back()["before"] = reason.before;
  }
  print_json(list);
  return ExitCode::done;
}

ExitCode plan(const SpecArguments& arguments, const std::string& out, const JobsArgument& wanted_jobs, bool timing,
              bool json) {
  const Plan planned = make_plan(read_spec(arguments.spec, arguments.set));
  const int jobs = wanted_jobs.side_by_side(planned);
  std::optional<Forecast> expected;
  if (timing) expected = forecast(planned, jobs, folder_for(out, planned));
  if (json) {
    Json document = planned.to_json();
    if (expected)
      document["expected"] = {{"seconds", expected->seconds},
                              {"low", expected->low},
                              {"high", expected->high},
                              {"contention", expected->contention},
                              {"jobs", jobs},
                              {"measured_whole_steps", expected->whole_steps}};
    print_json(document);
    return ExitCode::done;
  }
  print(plan_text(planned, ::isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 1000));
  print(done_text(planned, folder_for(out, planned)));
  if (expected)
    print(fmt::format("expected time on this machine with {} jobs: {} ({} to {} nine times in ten{}{})\n", jobs,
                      duration_text(expected->seconds), duration_text(expected->low), duration_text(expected->high),
                      expected->contention < 1.2 ? "" : "; others work here too, which may end or grow",
                      expected->whole_steps ? "" : "; a step is long here, so a part of one was measured"));
  return ExitCode::done;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("plan", "Shows the runs of a spec, their cost and the expected time; trains nothing");
  auto arguments = std::make_shared<SpecArguments>();
  auto json = std::make_shared<bool>(false);
  auto skip_timing = std::make_shared<bool>(false);
  auto jobs = std::make_shared<JobsArgument>();
  auto out = std::make_shared<std::string>();
  auto reasons = std::make_shared<bool>(false);
  auto proposal = std::make_shared<ProposalArguments>();
  arguments->add_to(*command);
  jobs->add_to(*command);
  command->add_option("--out", *out, "folder whose finished runs are counted (default results/NAME)");
  command->add_flag("--no-timing", *skip_timing, "do not measure this machine for the expected time");
  command->add_flag("--why", *reasons,
                    "instead: what a sweep would do with each run, and why (new, done, changed, failed)");
  command->add_flag("--json", *json, "one JSON document on standard output");
  proposal->add_to(*command);
  command->footer(
      "Example: attnscale plan experiments/quickstart/spec.json\n"
      "         attnscale plan experiments/quickstart/spec.json --flops 1e12 --design isoflop --write proposed.json\n"
      "         attnscale plan experiments/quickstart/spec.json --adaptive results/quickstart --budget 10m");
  command->callback([=, &action] {
    proposal->check();
    if (proposal->wanted() && (*reasons || *skip_timing || !out->empty()))
      throw CLI::ValidationError("plan",
                                 "--why, --no-timing and --out do nothing with --budget or --flops: leave them out");
    action = [=] {
      if (proposal->wanted()) return propose(*arguments, *proposal, *jobs, *json);
      return *reasons ? plan_why(*arguments, *out, *json) : plan(*arguments, *out, *jobs, !*skip_timing, *json);
    };
  });
}

}  // namespace attnscale
