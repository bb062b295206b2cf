// Variants against each other, and fitted irreducible losses against the truth.

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "report/compare.h"
#include "report/figure_parts.h"
#include "report/text.h"

namespace attnscale {
namespace {

Json difference_rows(const ReferenceComparison& comparison, Extent& x, Extent& y) {
  Json rows = Json::array();
  y.add(0);
  for (const CellDifference& cell : comparison.cells) {
    Json row = {{"kind", "mean"},
                {"variant", label(cell.variant)},
                {"x", cell.params},
                {"params", cell.params},
                {"y", cell.difference.mean},
                {"low", cell.difference.low},
                {"high", cell.difference.high},
                {"seeds", cell.difference.count}};
    if (cell.depth) row["depth"] = *cell.depth;
    if (cell.model_dim) row["model_dim"] = *cell.model_dim;
    if (cell.tokens) row["tokens"] = *cell.tokens;
    rows.push_back(std::move(row));
    x.add(cell.params);
    y.add(cell.difference.low);
    y.add(cell.difference.high);
  }
  return rows;
}

std::vector<Json> difference_layers(const Sweep& sweep, const ReferenceComparison& comparison, const Json& rows,
                                    const Extent& x, const Extent& y) {
  const std::string title = fmt::format("loss minus that of {} (nats per token)", label(comparison.reference));
  Json y_axis = loss_y(title, y);
  y_axis["axis"]["format"] = "+.3~f";
  const Json x_axis = log_x(parameters_quantity(), x);
  Json colour = variant_colour(sweep);
  Json shown = Json::array();
  for (const Json& variant : colour["scale"]["domain"])
    if (variant != label(comparison.reference)) shown.push_back(variant);
  colour["legend"] = {{"values", shown}};
  Json shape = variant_shape(sweep);
  shape["legend"] = colour["legend"];
  const Json zero = {{"values", Json::array({{{"zero", 0}}})}};
  const Json zero_y = {{"field", "zero"}, {"type", "quantitative"}};
  return {{{"data", zero}, {"mark", {{"type", "rule"}, {"style", "truth"}}}, {"encoding", {{"y", zero_y}}}},
          rule_label(zero, "zero", label(comparison.reference), "truth-label-ground"),
          rule_label(zero, "zero", label(comparison.reference), "truth-label"),
          seed_bars("datum.seeds > 1", x_axis, colour),
          {{"mark", {{"type", "point"}, {"filled", true}, {"size", 75}, {"opacity", 1}}},
           {"encoding",
            {{"x", x_axis},
             {"y", y_axis},
             {"color", colour},
             {"shape", shape},
             {"tooltip", cell_tooltip(rows, "difference")}}}}};
}

/// With one size there is no axis of size: a row per variant, a tick per seed, the mean as a point.
void add_variant_strip(const Sweep& sweep, Figure figure, Figures& figures) {
  Json rows = Json::array();
  Extent loss;
  for (const Cell& cell : sweep.cells) {
    if (!cell.loss) continue;
    rows.push_back(mean_row(cell, 0, *cell.loss));
    loss.add(cell.loss->low);
    loss.add(cell.loss->high);
  }
  for (const Run& run : sweep.runs)
    if (run.sound()) rows.push_back({{"kind", "seed"}, {"variant", label(run.variant)}, {"y", *run.loss}});
  if (sweep.truth) loss.add(sweep.truth->loss);
  Json order = variant_colour(sweep)["scale"]["domain"];
  const Json y = {
      {"field", "variant"}, {"type", "nominal"}, {"sort", order}, {"axis", {{"title", nullptr}, {"labelLimit", 220}}}};
  const Json x = loss_y("validation loss (nats per token)", loss);
  Json colour = variant_colour(sweep);
  colour["legend"] = nullptr;
  std::vector<Json> layers = {
      {{"transform", only("seed")},
       {"mark", {{"type", "tick"}, {"thickness", 1.5}, {"opacity", 0.6}}},
       {"encoding", {{"x", x}, {"y", y}, {"color", colour}}}},
      {{"transform", only("mean")},
       {"mark", {{"type", "point"}, {"filled", true}, {"size", 90}, {"opacity", 1}}},
       {"encoding", {{"x", x}, {"y", y}, {"color", colour}, {"tooltip", cell_tooltip(rows, "mean loss")}}}}};
  if (sweep.truth) {
    layers.push_back({{"data", {{"values", Json::array({{{"truth", sweep.truth->loss}}})}}},
                      {"mark", {{"type", "rule"}, {"style", "truth"}}},
                      {"encoding", {{"x", {{"field", "truth"}, {"type", "quantitative"}}}}}});
  }
  figure.caption = "Final validation loss of each variant: a tick per run, a point for the mean. ";
  if (sweep.truth) figure.caption += fmt::format("The dashed rule is the {} of the source. ", sweep.truth->name);
  figure.spec = layered_spec(figure.title + ". " + figure.caption, std::move(rows), std::move(layers), false, sweep);
  figure.spec["height"] = std::clamp<size_t>(sweep.variants.size() * 44, 80, 500);
  figures.drawn.push_back(std::move(figure));
}

}  // namespace

void add_variants(const Sweep& sweep, Figures& figures) {
  Figure figure{.id = "variants", .title = "Variants compared", .caption = {}, .spec = {}};
  if (sweep.variants.size() < 2) {
    figures.missing.push_back(
        {figure.id, figure.title, "The sweep has one attention variant, so there is nothing to compare."});
    return;
  }
  if (distinct(sweep, &Cell::params).empty()) {
    figures.missing.push_back({figure.id, figure.title, "No run finished with a loss."});
    return;
  }
  std::set<std::pair<double, double>> sizes;
  for (const Cell& cell : sweep.cells)
    if (cell.loss) sizes.insert({cell.depth.value_or(0), cell.model_dim.value_or(0)});
  if (sizes.size() == 1) return add_variant_strip(sweep, std::move(figure), figures);

  const ReferenceComparison comparison = compare_with_reference(sweep);
  if (comparison.cells.empty()) {
    figures.missing.push_back(
        {figure.id, figure.title,
         fmt::format("No finished run of another variant has a partner of {} with the same seed, size, "
                     "data and training.",
                     label(comparison.reference))});
    return;
  }
  Extent x, y;
  Json rows = difference_rows(comparison, x, y);
  figure.caption = fmt::format(
      "Paired by seed, depth, width and training: loss minus that of {}; below the dashed rule is "
      "better. Each point is the mean over pairs, its bar runs from the lowest to the highest. "
      "Parameters are the variant's own.",
      label(comparison.reference));
  std::vector<Json> layers = difference_layers(sweep, comparison, rows, x, y);
  figure.spec = layered_spec(figure.title + ". " + figure.caption, std::move(rows), std::move(layers), false, sweep);
  figures.drawn.push_back(std::move(figure));
}

void add_irreducible_loss(const Sweep& sweep, Figures& figures) {
  Figure figure{.id = "irreducible-loss", .title = "Irreducible loss", .caption = {}, .spec = {}};
  if (sweep.laws.empty()) {
    figures.missing.push_back({figure.id, figure.title, "scaling.json holds no fit with an irreducible loss."});
    return;
  }
  // Of one variant the fits of all runs are its own.
  std::set<std::string> series;
  for (const Law& law : sweep.laws) series.insert(law.series);
  std::vector<Law> laws = sweep.laws;
  if (series.size() == 2) std::erase_if(laws, [](const Law& law) { return law.series == "all"; });
  Json rows = Json::array(), order = Json::array();
  Extent loss;
  std::vector<double> widths;
  for (const Law& law : laws)
    if (const auto interval = law.intervals.find("E"); interval != law.intervals.end())
      widths.push_back(interval->second.second - interval->second.first);
  std::sort(widths.begin(), widths.end());
  // Of two, the narrower.
  const double typical = widths.empty() ? 0 : widths[(widths.size() - 1) / 2], most = widths.size() > 2 ? 4 : 10;
  bool cut = false;
  for (const Law& law : laws) {
    const std::string name = fmt::format("{}  {}{}", label(law.series), law.form, law.paired ? ", paired" : "");
    Json row = {{"kind", "fit"}, {"fit", name}, {"y", law.irreducible}};
    loss.add(law.irreducible);
    if (const auto interval = law.intervals.find("E"); interval != law.intervals.end()) {
      row["low"] = interval->second.first;
      row["high"] = interval->second.second;
      // An interval that says nothing must not flatten those that say much.
      const bool wide = typical > 0 && interval->second.second - interval->second.first > most * typical;
      cut = cut || wide;
      loss.add(wide ? std::max(interval->second.first, law.irreducible - 2 * typical) : interval->second.first);
      loss.add(wide ? std::min(interval->second.second, law.irreducible + 2 * typical) : interval->second.second);
    }
    rows.push_back(std::move(row));
    order.push_back(name);
  }
  if (sweep.truth) loss.add(sweep.truth->loss);
  const Json y = {
      {"field", "fit"}, {"type", "nominal"}, {"sort", order}, {"axis", {{"title", nullptr}, {"labelLimit", 240}}}};
  const Json x = loss_y("irreducible loss E (nats per token)", loss);
  const Json low = {{"field", "low"}, {"type", "quantitative"}};
  std::vector<Json> layers = {
      {{"transform", Json::array({{{"filter", "isValid(datum.low)"}}})},
       {"mark", {{"type", "rule"}, {"strokeWidth", 3}, {"opacity", 0.55}, {"style", "interval"}, {"clip", true}}},
       {"encoding", {{"y", y}, {"x", low}, {"x2", {{"field", "high"}}}}}},
      {{"mark", {{"type", "point"}, {"filled", true}, {"size", 90}, {"opacity", 1}, {"style", "estimate"}}},
       {"encoding",
        {{"y", y},
         {"x", x},
         {"tooltip",
          {{{"field", "fit"}},
           {{"field", "y"}, {"title", "E"}, {"format", ".4f"}},
           {{"field", "low"}, {"title", "from"}, {"format", ".4f"}},
           {{"field", "high"}, {"title", "to"}, {"format", ".4f"}}}}}}}};
  if (sweep.truth) {
    const Json values = {{"values", Json::array({{{"truth", sweep.truth->loss}}})}};
    const Json at = {{"field", "truth"}, {"type", "quantitative"}};
    layers.push_back({{"data", values}, {"mark", {{"type", "rule"}, {"style", "truth"}}}, {"encoding", {{"x", at}}}});
    layers.push_back({{"data", values},
                      {"mark",
                       {{"type", "text"},
                        {"style", "truth-label"},
                        {"align", "left"},
                        {"baseline", "bottom"},
                        {"dx", 0},
                        {"dy", -4},
                        {"text", fmt::format("{} {}", sweep.truth->name, loss_text(sweep.truth->loss))}}},
                      {"encoding", {{"x", at}, {"y", {{"value", 0}}}}}});
  }
  figure.caption =
      "The loss that a fitted law says would remain with unlimited parameters (and data), with its 95 % interval. ";
  if (std::any_of(laws.begin(), laws.end(), [](const Law& law) { return law.paired; }))
    figure.caption +=
        "Paired fits see the true Bayes loss plus the excess over it on the same tokens: sharper, but they are told "
        "the "
        "truth beforehand, so that the verdict is that of the others. ";
  if (cut)
    figure.caption +=
        "Intervals that are much wider than others are cut at the edges; the table of fits has them whole. ";
  if (sweep.truth)
    figure.caption +=
        fmt::format("The dashed rule is the {} of the source: an interval should cover it. ", sweep.truth->name);
  figure.spec = layered_spec(figure.title + ". " + figure.caption, std::move(rows), std::move(layers), false, sweep);
  figure.spec["height"] = std::clamp<size_t>(laws.size() * 40 + 20, 80, 500);
  figures.drawn.push_back(std::move(figure));
}

}  // namespace attnscale
