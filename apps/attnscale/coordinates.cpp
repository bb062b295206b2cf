#include <cmath>
#include <map>

#include <fmt/format.h>
#include <unistd.h>

#include "commands.h"
#include "core/table.h"
#include "train/coordinate_check.h"

namespace attnscale {
namespace {

/// A config without what may differ between the widths of one check.
/// @param base  a run under muP; null: there is none. One at its base width does not say so, being as it is without
Json apart_from_width(const RunConfig& config, const RunConfig* base) {
  auto said = config;
  if (base != nullptr && !config.model.mup_base_dim && base->model.mup_base_dim == config.model.model_dim &&
      base->model.mup_base_heads == config.model.num_heads) {
    said.model.mup_base_dim = base->model.mup_base_dim;
    said.model.mup_base_heads = base->model.mup_base_heads;
  }
  Json json = said.to_json();
  for (const auto* name : {"model_dim", "ffn_dim", "embedding_dim", "num_heads", "num_kv_heads"})
    json["model"].erase(name);
  json["train"].erase("seed");
  return json;
}

/// The runs by width. @throws ConfigError unless they differ in width and seed alone, in two widths or more
std::map<int64_t, std::vector<RunConfig>> by_width(const Plan& plan) {
  std::map<int64_t, std::vector<RunConfig>> widths;
  const RunConfig* base = nullptr;
  for (const auto& run : plan.runs)
    if (run.config.model.mup_base_dim) base = &run.config;
  for (const auto& run : plan.runs) {
    if (apart_from_width(run.config, base) != apart_from_width(plan.runs.front().config, base))
      throw ConfigError(
          "a coordinate check compares widths: the spec's runs differ in more than model.model_dim, heads "
          "and train.seed; set the rest with --set, under muP model.mup_base_heads too where heads grow in number");
    widths[run.config.model.model_dim].push_back(run.config);
  }
  if (widths.size() < 2)
    throw ConfigError(
        fmt::format("a coordinate check compares widths, and all runs have model_dim {}; give the spec an "
                    "axis model.model_dim",
                    widths.begin()->first));
  return widths;
}

ExitCode coordinates(const SpecArguments& arguments, int64_t steps, bool as_json) {
  const auto widths = by_width(make_plan(read_spec(arguments.spec, arguments.set)));
  const std::pair<const char*, double Coordinates::*> quantities[] = {{"key", &Coordinates::key},
                                                                      {"value", &Coordinates::value},
                                                                      {"attention", &Coordinates::attention},
                                                                      {"logits", &Coordinates::logits}};
  Table table;
  table.add_column("model_dim", Table::right);
  table.add_column("seeds", Table::right);
  for (const auto& [name, member] : quantities) table.add_column(name, Table::right);
  std::vector<double> x;
  std::map<std::string, std::vector<double>> y;
  Json rows = Json::array();
  for (const auto& [width, runs] : widths) {
    Coordinates mean{.model_dim = width};
    for (const auto& config : runs) {
      const auto one = coordinates_of(config, steps);
      for (const auto& [name, member] : quantities) mean.*member += one.*member / static_cast<double>(runs.size());
    }
    x.push_back(static_cast<double>(width));
    std::vector<std::string> cells = {std::to_string(width), std::to_string(runs.size())};
    Json row = {{"model_dim", width}, {"seeds", runs.size()}};
    for (const auto& [name, member] : quantities) {
      y[name].push_back(mean.*member);
      cells.push_back(fmt::format("{:.4g}", mean.*member));
      row[name] = mean.*member;
    }
    table.add_row(cells);
    rows.push_back(row);
  }
  std::vector<std::string> cells = {"slope", ""};
  Json slopes = Json::object();
  for (const auto& [name, member] : quantities) {
    slopes[name] = log_slope(x, y[name]);
    cells.push_back(fmt::format("{:+.2f}", slopes[name].get<double>()));
  }
  table.add_row(cells);
  if (as_json) {
    print_json({{"steps", steps}, {"widths", rows}, {"slopes", slopes}});
    return ExitCode::done;
  }
  print(
      fmt::format("root mean square of what {} steps change, and its slope over the width on logarithmic axes\n"
                  "(0: muP; above: a wider model wants a smaller learning rate)\n\n",
                  steps));
  print(table.text(::isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 1000));
  return ExitCode::done;
}

}  // namespace

void add_coordinates(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "coordinates", "Checks how far the first steps move models of several widths (Yang et al. 2022, figure 5)");
  auto arguments = std::make_shared<SpecArguments>();
  auto steps = std::make_shared<int64_t>(4);
  auto json = std::make_shared<bool>(false);
  arguments->add_to(*command);
  command->add_option("--steps", *steps, "training steps of each model (default 4)")->check(CLI::Range(1, 100000));
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer("Example: attnscale coordinates widths.json --set model.mup_base_dim=64 --set train.warmup_steps=0");
  command->callback([=, &action] { action = [=] { return coordinates(*arguments, *steps, *json); }; });
}

}  // namespace attnscale
