#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <unistd.h>

#include "commands.h"
#include "core/table.h"
#include "scaling/statistics.h"
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
    if (run.model().mup_base_dim) base = run.shape.get();
  for (const auto& run : plan.runs) {
    if (apart_from_width(run.config(), base) != apart_from_width(plan.runs.front().config(), base))
      throw ConfigError(
          "a coordinate check compares widths: the spec's runs differ in more than model.model_dim, heads "
          "and train.seed; set the rest with --set, under muP model.mup_base_heads too where heads grow in number");
    widths[run.model().model_dim].push_back(run.config());
  }
  if (widths.size() < 2)
    throw ConfigError(
        fmt::format("a coordinate check compares widths, and all runs have model_dim {}; give the spec an "
                    "axis model.model_dim",
                    widths.begin()->first));
  return widths;
}

const std::pair<const char*, double Coordinates::*> quantities[] = {{"key", &Coordinates::key},
                                                                    {"value", &Coordinates::value},
                                                                    {"attention", &Coordinates::attention},
                                                                    {"stream", &Coordinates::stream},
                                                                    {"logits", &Coordinates::logits}};

/// `{"mean", "low"?, "high"?, "by_seed"}`, the interval Student's over seeds
Json over_seeds(const std::vector<double>& numbers) {
  Json json = {{"mean", mean(numbers)}, {"by_seed", numbers}};
  if (numbers.size() < 2) return json;
  const auto count = static_cast<double>(numbers.size());
  const double half = student_t_quantile(0.975, count - 1) * standard_deviation(numbers) / std::sqrt(count);
  json["low"] = mean(numbers) - half;
  json["high"] = mean(numbers) + half;
  return json;
}

/// What the widths changed by, as JSON: `widths`, rows of {model_dim, seeds, and each quantity}, then by quantity
/// `slopes` over the width on logarithmic axes, and `spreads`, the largest mean over the smallest, less 1.
Json measured(const std::map<int64_t, std::vector<RunConfig>>& widths, int64_t steps) {
  std::vector<double> x;
  std::map<std::string, std::vector<double>> y;
  Json rows = Json::array();
  for (const auto& [width, runs] : widths) {
    x.push_back(static_cast<double>(width));
    std::map<std::string, std::vector<double>> by_seed;
    for (const auto& config : runs) {
      const auto one = coordinates_of(config, steps);
      for (const auto& [name, member] : quantities) by_seed[name].push_back(one.*member);
    }
    Json row = {{"model_dim", width}, {"seeds", runs.size()}};
    for (const auto& [name, member] : quantities) {
      row[name] = over_seeds(by_seed[name]);
      y[name].push_back(mean(by_seed[name]));
    }
    rows.push_back(std::move(row));
  }
  Json report = {{"steps", steps}, {"widths", rows}, {"slopes", Json::object()}, {"spreads", Json::object()}};
  for (const auto& [name, means] : y) {
    const auto [least, most] = std::minmax_element(means.begin(), means.end());
    report["slopes"][name] = log_slope(x, means);
    report["spreads"][name] = *most / *least - 1;
  }
  return report;
}

std::string text_of(const Json& report) {
  Table table;
  table.add_column("model_dim", Table::right);
  table.add_column("seeds", Table::right);
  for (const auto& [name, member] : quantities) table.add_column(name, Table::right);
  for (const auto& row : report["widths"]) {
    std::vector<std::string> cells = {row["model_dim"].dump(), row["seeds"].dump()};
    for (const auto& [name, member] : quantities) {
      const auto& number = row[name];
      cells.push_back(fmt::format("{:.4g}", number["mean"].get<double>()));
      if (number.contains("low"))
        cells.back() += fmt::format(" ±{:.2g}", number["high"].get<double>() - number["mean"].get<double>());
    }
    table.add_row(cells);
  }
  std::vector<std::string> slopes = {"slope", ""}, spreads = {"spread", ""};
  for (const auto& [name, member] : quantities) {
    slopes.push_back(fmt::format("{:+.3f}", report["slopes"][name].get<double>()));
    spreads.push_back(fmt::format("{:.1f} %", 100 * report["spreads"][name].get<double>()));
  }
  table.add_row(slopes);
  table.add_row(spreads);
  return fmt::format(
             "root mean square of what {} steps change; ±: 95 % over seeds; slope over the width on logarithmic axes\n"
             "(0: muP; above: a wider model wants a smaller learning rate); spread: the largest over the smallest\n\n",
             report["steps"].get<int64_t>()) +
         table.text(::isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 1000);
}

ExitCode coordinates(const SpecArguments& arguments, int64_t steps, bool as_json) {
  const auto report = measured(by_width(make_plan(read_spec(arguments.spec, arguments.set))), steps);
  if (as_json) print_json(report);
  else print(text_of(report));
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
