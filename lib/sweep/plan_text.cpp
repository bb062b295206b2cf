#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/json_paths.h"
#include "core/table.h"
#include "core/units.h"
#include "sweep/plan.h"

namespace attnscale {
namespace {

std::string shown(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("variant")) {
    auto text = value["variant"].get<std::string>();
    for (const auto& [key, option] : value.items())
      if (key != "variant") text += fmt::format(" {}={}", key, option.dump());
    return text;
  }
  if (value.is_number_float()) return fmt::format("{:.4g}", value.get<double>());
  return value.dump();
}

/// The run that is furthest from what it was matched to.
std::optional<Matched> worst_match(const Plan& plan) {
  std::optional<Matched> worst;
  for (const auto& run : plan.runs)
    if (run.matched && (!worst || std::abs(run.matched->residual()) > std::abs(worst->residual()))) worst = run.matched;
  return worst;
}

/// What the sums above count of runs that may be stopped early, and what is trained at least.
std::string stopping_text(const Plan& plan) {
  const auto& rule = *plan.stopping;
  const auto least = least_work(plan);
  std::set<std::string> at;  // runs of several lengths have several lists
  for (const auto& run : plan.runs) at.insert(fmt::format("{}", fmt::join(rule.looks(run.train.steps), ", ")));
  at.erase("");
  std::vector<std::string> names;
  for (const auto& path : rule.by) names.push_back(last_part(path));
  return fmt::format(
      "early stopping ({}) after {} steps, in {} groups of at most {} runs that differ in {}: the sums above count "
      "every "
      "run to its end, at most; at least {} tokens, {} FLOPs\n",
      rule.rule, fmt::join(at, "; or "), least.groups, least.largest_group, fmt::join(names, ", "),
      count_text(least.tokens), count_text(least.flops));
}

constexpr size_t most_rows = 60;

}  // namespace

std::string plan_text(const Plan& plan, size_t width) {
  Table table;
  table.add_column("run");
  std::vector<std::string> paths;
  // Without groups all runs have the same settings.
  const bool in_groups = !plan.runs.empty() && !plan.runs.front().groups.empty();
  for (size_t i = 0; i < (in_groups ? plan.runs.size() : std::min<size_t>(1, plan.runs.size())); ++i)
    for (const auto& [path, value] : plan.runs[i].settings.items())
      if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
  if (in_groups) table.add_column("group");
  for (const auto& path : paths) table.add_column(last_part(path));
  for (const auto* name : {"params", "tokens", "FLOPs", "memory"}) table.add_column(name, Table::right);
  double tokens = 0, flops = 0;
  int64_t memory = 0;
  for (size_t i = 0; i < plan.runs.size(); ++i) {
    const auto& run = plan.runs[i];
    tokens += run.tokens();
    flops += run.training_flops();
    memory = std::max(memory, static_cast<int64_t>(run.peak_bytes));
    if (i >= most_rows) continue;
    std::vector<std::string> row = {run.id.substr(0, 8)};
    if (in_groups) row.push_back(fmt::format("{}", fmt::join(run.groups, ", ")));
    for (const auto& path : paths) row.push_back(run.settings.contains(path) ? shown(run.settings[path]) : "");
    const auto& parameters = run.cost.parameters;
    auto cell = count_text(static_cast<double>(parameters.total));
    if (parameters.active != parameters.total)
      cell += fmt::format(" ({} active)", count_text(static_cast<double>(parameters.active)));
    row.push_back(cell);
    row.push_back(count_text(run.tokens()));
    row.push_back(count_text(run.training_flops()));
    row.push_back(bytes_text(static_cast<int64_t>(run.peak_bytes)));
    table.add_row(std::move(row));
  }
  std::string text = table.text(width);
  if (plan.runs.size() > most_rows)
    text += fmt::format("... and {} more runs (plan --json has all)\n", plan.runs.size() - most_rows);
  text += fmt::format("{} runs, {} tokens, {} FLOPs, at most {} memory a run\n", plan.runs.size(), count_text(tokens),
                      count_text(flops), bytes_text(memory));
  if (plan.stopping) text += stopping_text(plan);
  if (const auto worst = worst_match(plan))
    text += fmt::format("{} matched within {:.2g} %\n", worst->quantity, 100 * std::abs(worst->residual()));
  if (plan.excluded > 0) text += fmt::format("{} points are excluded\n", plan.excluded);
  if (plan.repeated > 0) text += fmt::format("{} points repeat a config and run once\n", plan.repeated);
  return text;
}

}  // namespace attnscale
