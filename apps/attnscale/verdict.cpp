#include "commands.h"
#include "report/claims.h"

namespace attnscale {
namespace {

struct VerdictArguments {
  std::string folder, against, claims;
  bool json = false, markdown = false;
};

ExitCode verdict(const VerdictArguments& arguments) {
  const std::filesystem::path spec = arguments.claims.empty() ? std::filesystem::path(arguments.folder) / "spec.json"
                                                              : std::filesystem::path(arguments.claims);
  auto report = claims_report(arguments.folder, spec);
  if (!arguments.against.empty()) report = with_rerun(std::move(report), claims_report(arguments.against, spec));
  if (arguments.json) print_json(report);
  else print(arguments.markdown ? claims_markdown(report) : claims_text(report));
  if (const auto refused = refusals(report); !refused.empty()) throw ConfigError(refused);  // behind what others say
  return ExitCode::done;
}

}  // namespace

void add_verdict(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "verdict", "Whether the claims of a sweep's spec hold, with intervals, and whether they do with other seeds");
  auto arguments = std::make_shared<VerdictArguments>();
  command->add_option("dir", arguments->folder, "folder of a sweep")->required();
  command->add_option("--against", arguments->against, "folder of the same sweep with other seeds: both verdicts");
  command->add_option("--claims", arguments->claims, "the spec whose claims are meant (default: the folder's)");
  auto* json = command->add_flag("--json", arguments->json, "one JSON document on standard output");
  command->add_flag("--markdown", arguments->markdown, "a table for a README")->excludes(json);
  command->footer(
      "Example: attnscale verdict results/precision\n"
      "         attnscale sweep experiments/precision/spec.json --set 'seeds=[5,6,7,8,9]' --out results/again\n"
      "         attnscale verdict results/precision --against results/again\n"
      "Whatever the verdicts are, the exit status is 0 when they could be given; 65 when a claim is refused, which\n"
      "keeps no other one from its verdict.");
  command->callback([=, &action] { action = [=] { return verdict(*arguments); }; });
}

}  // namespace attnscale
