// Accuracy on a task of questions against the state that decoding keeps.

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "report/figure_parts.h"
#include "report/text.h"

namespace attnscale {
namespace {

Quantity state_quantity() { return {&Cell::state_bytes, "decode state", "decode state (bytes)", "state_bytes"}; }
Quantity width_quantity() { return {&Cell::model_dim, "width", "width (model_dim)", "model_dim"}; }

struct Choice {
  std::vector<const Cell*> best;  ///< of each variant, task, size and state the cell with the highest mean accuracy
  bool chosen = false;            ///< whether that was one of several
};

Choice best_cells(const Sweep& sweep) {
  std::map<std::tuple<std::string, std::string, double, double, double>, const Cell*> best;
  Choice choice;
  for (const Cell& cell : sweep.cells) {
    if (!cell.accuracy || !cell.state_bytes || *cell.state_bytes <= 0) continue;
    const Cell*& held =
        best[{cell.variant, cell.task, cell.depth.value_or(0), cell.model_dim.value_or(0), *cell.state_bytes}];
    if (held) choice.chosen = true;
    if (!held || cell.accuracy->mean > held->accuracy->mean) held = &cell;
  }
  for (const auto& [key, cell] : best) choice.best.push_back(cell);
  return choice;
}

/// A name for each task: those of its settings that differ between tasks, `num_pairs=8, context=32`.
std::map<std::string, std::string> task_names(const std::vector<const Cell*>& cells) {
  std::map<std::string, std::map<std::string, std::string>> settings;  // task -> path -> value
  std::map<std::string, std::set<std::string>> values;                 // path -> all of them
  for (const Cell* cell : cells) {
    if (settings.count(cell->task)) continue;
    for (const auto& [path, value] : flatten(Json::parse(cell->task, nullptr, false)))
      settings[cell->task][path] = value.is_string() ? value.get<std::string>() : value.dump();
    for (const auto& [path, value] : settings[cell->task]) values[path].insert(value);
  }
  std::map<std::string, std::string> names;
  for (const auto& [task, own] : settings) {
    std::vector<std::string> parts;
    for (const auto& [path, value] : own)
      if (values[path].size() > 1) parts.push_back(path + "=" + value);
    names[task] = parts.empty() ? "one task" : label(joined(parts, ", "));
  }
  return names;
}

/// What guessing scores, where that is one number for all runs.
std::optional<double> common_chance(const Sweep& sweep) {
  std::set<double> values;
  for (const Run& run : sweep.runs)
    if (run.chance_accuracy) values.insert(*run.chance_accuracy);
  return values.size() == 1 ? std::optional(*values.begin()) : std::nullopt;
}

std::vector<Json> chance_layers(std::optional<double> chance) {
  if (!chance) return {};
  return {{{"data", {{"values", Json::array({{{"chance", *chance}}})}}},
           {"mark", {{"type", "rule"}, {"style", "truth"}}},
           {"encoding", {{"y", {{"field", "chance"}, {"type", "quantitative"}}}}}}};
}

std::vector<Json> accuracy_layers(const Json& rows, const Json& colour, const Extent& x, std::optional<double> chance,
                                  bool others) {
  Json x_axis = log_x(state_quantity(), x);
  const Json y_axis = {{"field", "y"},
                       {"type", "quantitative"},
                       {"scale", {{"domain", {0, 1}}}},
                       {"axis", {{"title", "accuracy"}, {"tickCount", 5}, {"format", axis_number}}}};
  std::vector<Json> layers = chance_layers(chance);
  if (others) {
    Json behind = Json::array();
    for (const Json& row : rows) behind.push_back({{"x", row["x"]}, {"y", row["y"]}});
    layers.push_back(
        {{"data", {{"values", std::move(behind)}}},
         {"mark", {{"type", "point"}, {"filled", true}, {"size", 14}, {"opacity", 0.3}, {"style", "quiet"}}},
         {"encoding", {{"x", x_axis}, {"y", y_axis}}}});
  }
  layers.push_back({{"mark", {{"type", "line"}, {"style", {"quiet", "curve"}}}},
                    {"encoding", {{"x", x_axis}, {"y", y_axis}, {"detail", {{"field", "task"}}}}}});
  layers.push_back(seed_bars("datum.seeds > 1", x_axis, colour));
  Json tooltip = cell_tooltip(rows, "accuracy");
  tooltip.push_back({{"field", "state_bytes"}, {"title", "state (bytes)"}, {"format", ","}});
  tooltip.push_back({{"field", "task"}});
  layers.push_back({{"mark", {{"type", "point"}, {"filled", true}, {"size", 60}, {"opacity", 1}}},
                    {"encoding", {{"x", x_axis}, {"y", y_axis}, {"color", colour}, {"tooltip", tooltip}}}});
  return layers;
}

std::string caption_of(const Choice& choice, size_t tasks, size_t variants, std::optional<double> chance) {
  std::string text =
      "Share of the questions that are answered right, against what decoding one sequence keeps at full context (all "
      "layers, float32). ";
  text += tasks > 1 ? "Colour shows the task. " : "Colour shows the width. ";
  if (variants > 1) text += "A panel for each variant; the faint points are those of all variants. ";
  if (choice.chosen)
    text +=
        "Each point is the best of the runs that differ only in how they were trained, chosen on the same questions. ";
  if (chance) text += fmt::format("The dashed rule is a guess among all answers, {:.3g}. ", *chance);
  return text;
}

}  // namespace

void add_accuracy_against_state(const Sweep& sweep, Figures& figures) {
  Figure figure{.id = "accuracy-state", .title = "Accuracy against state size", .caption = {}, .spec = {}};
  const Choice choice = best_cells(sweep);
  if (choice.best.empty()) {
    const bool asked = std::any_of(sweep.cells.begin(), sweep.cells.end(), [](const Cell& c) { return c.accuracy; });
    figures.missing.push_back({figure.id, figure.title,
                               asked ? "The rows do not say how large the decode state is (state_bytes)."
                                     : "No source of these runs asks questions that have one right answer."});
    return;
  }
  const auto names = task_names(choice.best);
  Json rows = Json::array();
  Extent x;
  std::set<std::string> variants;
  for (const Cell* cell : choice.best) {
    Json row = mean_row(*cell, *cell->state_bytes, *cell->accuracy);
    row["state_bytes"] = *cell->state_bytes;
    row["task"] = names.at(cell->task);
    rows.push_back(std::move(row));
    x.add(*cell->state_bytes);
    variants.insert(cell->variant);
  }
  const auto chance = common_chance(sweep);
  const bool several = variants.size() > 1;
  const Json colour = names.size() > 1 ? Json{{"field", "task"}, {"type", "nominal"}, {"title", "task"}}
                                       : ramp_colour(sweep, width_quantity());
  figure.caption = caption_of(choice, names.size(), variants.size(), chance);
  auto layers = accuracy_layers(rows, colour, x, chance, several);
  figure.spec = layered_spec(figure.title + ". " + figure.caption, std::move(rows), std::move(layers), several, sweep);
  if (variants.size() > 4) {
    figure.spec["columns"] = 4;
    figure.spec["spacing"] = 24;
    figure.spec["facet"]["header"] = {{"labelFontSize", 11}, {"labelLimit", 195}};  // names longer than that end in "…"
    figure.spec["spec"]["width"] = 175;
    figure.spec["spec"]["height"] = 150;
  }
  figures.drawn.push_back(std::move(figure));
}

}  // namespace attnscale
