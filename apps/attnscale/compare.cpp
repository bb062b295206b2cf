#include <filesystem>

#include "commands.h"
#include "scaling/variant_report.h"

namespace attnscale {
namespace {

ExitCode compare(const std::string& folder, const FitReportOptions& options, bool json) {
  const Json report = variant_report(folder, options);
  if (json) print_json(report);
  else print(variant_text(report));
  return ExitCode::done;
}

}  // namespace

void add_compare(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("compare", "Compares a sweep's attention variants in pairs, with a verdict each");
  auto folder = std::make_shared<std::string>();
  auto options = std::make_shared<FitReportOptions>();
  auto json = std::make_shared<bool>(false);
  command->add_option("dir", *folder, "folder of a sweep")->required();
  command->add_flag("--keep-flagged", options->keep_flagged, "use runs too that carry flags (a loss that jumped)");
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer("Example: attnscale compare results/quickstart");
  command->callback([=, &action] { action = [=] { return compare(*folder, *options, *json); }; });
}

}  // namespace attnscale
