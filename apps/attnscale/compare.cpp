#include <filesystem>

#include <fmt/format.h>

#include "commands.h"
#include "report/run_query.h"
#include "scaling/matched_runs.h"
#include "scaling/variant_report.h"

namespace attnscale {
namespace {

ExitCode compare(const std::string& folder, const FitReportOptions& options, CompareOptions how,
                 const std::string& where, bool pairs, bool json) {
  if (!where.empty()) how.only = runs_where(RunTable::read(folder), where);
  Json report = variant_report(folder, options, how);
  if (!where.empty()) {
    report["where"] = where;
    report["notes"].push_back(fmt::format("of the {} runs for which {} holds", how.only->size(), where));
  }
  if (json) print_json(report);
  else print(variant_text(report, pairs));
  return ExitCode::done;
}

}  // namespace

void add_compare(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "compare", "Ranks a sweep's attention variants, and compares them in pairs with a verdict each");
  auto folder = std::make_shared<std::string>();
  auto options = std::make_shared<FitReportOptions>();
  auto json = std::make_shared<bool>(false);
  command->add_option("dir", *folder, "folder of a sweep")->required();
  command->add_flag("--keep-flagged", options->keep_flagged, "use runs too that carry flags (a loss that jumped)");
  auto how = std::make_shared<CompareOptions>();
  command->add_option("--at", how->at, "compare what variants reach with equal amounts of this")
      ->check(CLI::IsMember(matched_quantities()));
  auto* shuffle =
      command->add_flag("--shuffle-labels", how->shuffle_labels,
                        "control: deal paired losses out among the variants at random; nothing may be found");
  command->add_option("--seed", how->seed, "seed of the shuffle")->needs(shuffle)->check(CLI::NonNegativeNumber);
  auto where = std::make_shared<std::string>();
  command
      ->add_option("--where", *where,
                   "only runs for which this holds, such as those of one group: 'group == \"small\"'")
      ->type_name("CONDITION");
  auto pairs = std::make_shared<bool>(false);
  auto* all = command->add_flag("--pairs", *pairs, "a sentence for each pair, also where there are more than 10");
  command->add_flag("--json", *json, "one JSON document on standard output")->excludes(all);
  command->footer(
      "Example: attnscale compare results/quickstart\n"
      "         attnscale compare results/quickstart --at seconds\n"
      "         attnscale compare results/quickstart --shuffle-labels");
  command->callback([=, &action] { action = [=] { return compare(*folder, *options, *how, *where, *pairs, *json); }; });
}

}  // namespace attnscale
