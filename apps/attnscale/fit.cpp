#include "scaling/fit.h"

#include <cmath>
#include <filesystem>

#include "commands.h"
#include "scaling/scaling.h"
#include "scaling/self_test.h"

namespace attnscale {
namespace {

struct FitArguments {
  std::string path, columns, parameters, flops;
  FitReportOptions options;
  double fixed_E = 0, held_out_above = 0;
  bool json = false, self_test = false;
  int sweeps = SelfTestOptions{}.sweeps;
};

/// Refuses NaN and infinity, which CLI11's own range checks let through.
const CLI::Validator finite_number(
    [](std::string& text) -> std::string {
      double value = 0;
      if (CLI::detail::lexical_cast(text, value) && std::isfinite(value)) return "";
      return "expected a finite number, received " + text;
    },
    "");

ExitCode fit(FitArguments arguments, bool has_fixed_E, bool has_held_out) {
  if (has_held_out) arguments.options.held_out_above = arguments.held_out_above;
  if (has_fixed_E) arguments.options.fixed_E = arguments.fixed_E;
  auto columns = ColumnMap::parse(arguments.columns);
  if (!arguments.parameters.empty()) columns.count_by("N", arguments.parameters);
  if (!arguments.flops.empty()) columns.count_by("C", arguments.flops);
  const Json result = fit_of_path(arguments.path, columns, arguments.options);
  if (arguments.json) print_json(result);
  else print(fit_text_of_path(result));
  return ExitCode::done;
}

ExitCode test_fits(const FitArguments& arguments, bool has_replicates) {
  SelfTestOptions options{.sweeps = arguments.sweeps, .seed = arguments.options.seed, .delta = arguments.options.delta};
  if (has_replicates) options.replicates = arguments.options.replicates;
  const Json result = self_test(options);
  if (arguments.json) print_json(result);
  else print(self_test_text(result));
  return result["passed"].get<bool>() ? ExitCode::done : ExitCode::run_failed;
}

}  // namespace

void add_fit(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("fit", "Fits scaling laws to a sweep's folder or a table, with intervals");
  auto arguments = std::make_shared<FitArguments>();
  command->add_option("path", arguments->path, "sweep folder, CSV, JSON or JSONL file");
  command->add_option("--columns", arguments->columns, "which column is what: N=params,D=tokens,L=loss,run=name")
      ->type_name("ROLE=COLUMN,...");
  command->add_option("--count-parameters", arguments->parameters, "which parameters N counts, of a sweep's runs")
      ->check(CLI::IsMember(ColumnMap::ledgers("N")));
  command->add_option("--count-flops", arguments->flops, "which FLOPs C counts, of a sweep's runs")
      ->check(CLI::IsMember(ColumnMap::ledgers("C")));
  command->add_option("--delta", arguments->options.delta, "Huber delta, in ln L")
      ->check(finite_number)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  auto* replicates =
      command
          ->add_option("--bootstrap", arguments->options.replicates, "bootstrap replicates; 0 leaves the intervals out")
          ->check(CLI::Range(0, 1000000))
          ->capture_default_str();
  command->add_option("--seed", arguments->options.seed, "seed of the bootstrap and of the self-test")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  auto* fixed = command->add_option("--fixed-irreducible", arguments->fixed_E, "known irreducible loss, nats per token")
                    ->check(finite_number)
                    ->check(CLI::NonNegativeNumber);
  auto* held_out =
      command
          ->add_option("--held-out-above", arguments->held_out_above,
                       "laws are also fitted to the points of at most this many FLOPs (C, else 6 N D, else D or N) and "
                       "scored on the others")
          ->check(finite_number)
          ->check(CLI::PositiveNumber);
  command->add_flag("--keep-flagged", arguments->options.keep_flagged,
                    "fit runs too that carry flags (a loss that jumped)");
  command->add_flag("--json", arguments->json, "one JSON document on standard output");
  auto* self_test =
      command->add_flag("--self-test", arguments->self_test,
                        "fit simulated sweeps of known laws, and show how often intervals hold the truth, "
                        "equal variants are called different and wrong laws are found out; takes minutes");
  command->add_option("--sweeps", arguments->sweeps, "sweeps that the self-test simulates for each source")
      ->needs(self_test)
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->footer(
      "Example: attnscale fit results/quickstart\n"
      "         attnscale fit runs.csv --columns N=params,D=tokens,L=loss\n"
      "         attnscale fit --self-test");
  command->callback([=, &action] {
    if (arguments->self_test == !arguments->path.empty())
      throw CLI::ValidationError("fit", "give a sweep folder or a table, or --self-test, and not both");
    action = [=] {
      return arguments->self_test ? test_fits(*arguments, replicates->count() > 0)
                                  : fit(*arguments, fixed->count() > 0, held_out->count() > 0);
    };
  });
}

}  // namespace attnscale
