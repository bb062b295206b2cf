#include "scaling/optimum.h"

#include "commands.h"
#include "core/files.h"
#include "report/optimum_figure.h"
#include "report/vega_engine.h"

namespace attnscale {
namespace {

struct OptimumArguments {
  std::string folder, figure;
  OptimumQuestion question;
  bool json = false;
};

ExitCode optimum(const OptimumArguments& arguments) {
  const auto report = optimum_report(arguments.folder, arguments.question);
  if (!arguments.figure.empty())
    write_file_atomically(arguments.figure, VegaEngine().svg(optimum_figure(report).spec, figure_theme(false)));
  if (arguments.json) print_json(report);
  else print(optimum_text(report));
  return ExitCode::done;
}

}  // namespace

void add_optimum(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "optimum", "Where a sweep's loss is least along one option, how that moves, and which settings win at their own");
  auto arguments = std::make_shared<OptimumArguments>();
  auto& question = arguments->question;
  command->add_option("dir", arguments->folder, "folder of a sweep")->required();
  command->add_option("--of", question.of, "config path of the swept option")->capture_default_str();
  command->add_option("--along", question.along, "config path of a number: how the optimum moves with it");
  command->add_option("--by", question.by, "config paths that tell settings apart, comma-separated")->delimiter(',');
  command->add_option("--level", question.level, "of the intervals")
      ->capture_default_str()
      ->check(CLI::Range(0.5, 0.999));
  command->add_option("--figure", arguments->figure, "write the curves as an SVG file");
  command->add_flag("--json", arguments->json, "one JSON document on standard output");
  command->footer(
      "Example: attnscale optimum results/learning-rate-width --along model.model_dim --by model.mup_base_dim");
  command->callback([=, &action] { action = [=] { return optimum(*arguments); }; });
}

}  // namespace attnscale
