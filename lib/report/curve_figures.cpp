// Learning curves, and loss over depth and width.

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "report/figure_parts.h"
#include "report/text.h"

namespace attnscale {
namespace {

constexpr size_t kMostPoints = 6000;  // of all curves together: about 1 MB of page

/// Upper end of the loss axis: the highest loss of a run that is done, so that a diverged run leaves the
/// picture at the top instead of flattening the others.
Extent loss_extent(const Sweep& sweep, bool any_done) {
  Extent extent;
  for (const Run& run : sweep.runs)
    if (run.done() || !any_done)
      for (const CurvePoint& point : run.curve) extent.add(point.loss);
  if (sweep.truth && !extent.empty()) extent.add(sweep.truth->loss);
  return extent;
}

void add_curve_rows(const Run& run, size_t keep, Json& rows, Extent& tokens) {
  const size_t stride = std::max<size_t>(1, (run.curve.size() + keep - 1) / keep);
  const size_t last = run.curve.size() - 1;
  for (size_t i = 0; i <= last; ++i) {
    const CurvePoint& point = run.curve[i];
    if (point.tokens <= 0 || (i % stride != 0 && i != last)) continue;
    Json row = {{"kind", run.done() ? "curve" : "unfinished"},
                {"variant", label(run.variant)},
                {"x", point.tokens},
                {"y", rounded(point.loss)},
                {"run", run.id},
                {"status", run.status}};
    if (run.params) row["params"] = *run.params;
    if (run.depth) row["depth"] = *run.depth;
    if (run.model_dim) row["model_dim"] = *run.model_dim;
    if (run.seed) row["seed"] = *run.seed;
    rows.push_back(std::move(row));
    tokens.add(point.tokens);
  }
}

Json curve_layer(const std::string& kind, const Json& x, const Json& y, const Json& colour) {
  Json mark = {{"type", "line"}, {"style", "curve"}, {"clip", true}};
  if (kind == "unfinished") mark["strokeDash"] = {3, 3};
  return {{"transform", only(kind)},
          {"mark", mark},
          {"encoding",
           {{"x", x},
            {"y", y},
            {"color", colour},
            {"detail", {{"field", "run"}}},
            {"tooltip",
             {{{"field", "variant"}, {"title", "attention"}},
              {{"field", "depth"}},
              {{"field", "model_dim"}, {"title", "width"}},
              {{"field", "params"}, {"title", "parameters"}, {"format", ","}},
              {{"field", "seed"}},
              {{"field", "status"}},
              {{"field", "run"}}}}}}};
}

struct Tile {
  const Cell* best = nullptr;
  size_t cells = 0;
  std::string trouble;
};

Json tile_row(const std::string& variant, double depth, double width, const Tile& tile, double low, double high) {
  if (!tile.best) {
    return {
        {"kind", "empty"}, {"variant", label(variant)}, {"depth", depth}, {"model_dim", width}, {"text", tile.trouble}};
  }
  Json row = mean_row(*tile.best, 0, *tile.best->loss);
  const double place = high > low ? (tile.best->loss->mean - low) / (high - low) : 0;
  row["kind"] = place < 0.45 ? "light" : "dark";  // which text stays legible on the colour
  row["text"] = fmt::format("{:.3f}", tile.best->loss->mean);
  return row;
}

Json tile_text(const std::string& kind, const std::string& style, const Json& x, const Json& y) {
  return {{"transform", only(kind)},
          {"mark", {{"type", "text"}, {"style", style}}},
          {"encoding", {{"x", x}, {"y", y}, {"text", {{"field", "text"}}}}}};
}

std::vector<Json> tile_layers(const Json& rows, double low, double high) {
  const Json x = {
      {"field", "model_dim"}, {"type", "ordinal"}, {"axis", {{"title", "width (model_dim)"}, {"labelAngle", 0}}}};
  const Json y = {
      {"field", "depth"}, {"type", "ordinal"}, {"sort", "descending"}, {"axis", {{"title", "depth (layers)"}}}};
  Json colour = {{"field", "y"},
                 {"type", "quantitative"},
                 {"scale", {{"zero", false}, {"nice", false}}},
                 {"legend", {{"title", "validation loss (nats per token)"}, {"tickCount", 4}, {"format", ".3~f"}}}};
  if (high > low) colour["scale"]["domain"] = {low, high};
  else colour["legend"] = nullptr;
  return {
      {{"transform", Json::array({{{"filter", "datum.kind === 'light' || datum.kind === 'dark'"}}})},
       {"mark",
        {{"type", "rect"}, {"cornerRadius", 3}, {"xOffset", 1}, {"x2Offset", -1}, {"yOffset", 1}, {"y2Offset", -1}}},
       {"encoding", {{"x", x}, {"y", y}, {"color", colour}, {"tooltip", cell_tooltip(rows, "validation loss")}}}},
      {{"transform", only("empty")},
       {"mark", {{"type", "rect"}, {"style", "empty-cell"}, {"cornerRadius", 3}}},
       {"encoding", {{"x", x}, {"y", y}}}},
      tile_text("light", "value-on-light", x, y),
      tile_text("dark", "value-on-dark", x, y),
      tile_text("empty", "quiet", x, y)};
}

}  // namespace

void add_learning_curves(const Sweep& sweep, Figures& figures) {
  Figure figure{.id = "learning-curves", .title = "Learning curves", .caption = {}, .spec = {}};
  std::vector<const Run*> shown;
  for (const Run& run : sweep.runs)
    if (run.curve.size() > 1) shown.push_back(&run);
  if (shown.empty()) {
    figures.missing.push_back({figure.id, figure.title, "No run recorded two validation losses."});
    return;
  }
  const size_t most_curves = 400;
  const bool cut = shown.size() > most_curves;
  if (cut) {
    std::set<std::string> seen;  // one seed per size is enough to see shapes
    shown.erase(
        std::remove_if(shown.begin(), shown.end(), [&](const Run* run) { return !seen.insert(run->cell).second; }),
        shown.end());
  }
  const size_t keep = std::clamp<size_t>(kMostPoints / shown.size(), 8, 80);
  Json rows = Json::array();
  Extent x;
  for (const Run* run : shown) add_curve_rows(*run, keep, rows, x);
  const Extent y = loss_extent(sweep, sweep.count("done") > 0);
  if (x.empty() || y.empty()) {
    figures.missing.push_back({figure.id, figure.title, "No run recorded its loss against tokens."});
    return;
  }
  const bool by_size = distinct(sweep, &Cell::params).size() > sweep.variants.size();
  const Json colour = by_size ? ramp_colour(sweep, parameters_quantity()) : variant_colour(sweep);
  Json x_axis = log_x(tokens_quantity(), x);
  x_axis["axis"]["title"] = "training tokens seen";
  const Json y_axis = loss_y("validation loss (nats per token)", y);
  std::vector<Json> layers = truth_rule(sweep);
  layers.push_back(curve_layer("curve", x_axis, y_axis, colour));
  const bool unfinished = std::any_of(shown.begin(), shown.end(), [](const Run* run) { return !run->done(); });
  if (unfinished) layers.push_back(curve_layer("unfinished", x_axis, y_axis, colour));
  for (auto& layer : truth_label(sweep)) layers.push_back(std::move(layer));
  figure.caption =
      fmt::format("Validation loss during training, a line for each {}. ", cut ? "size (its first seed)" : "run");
  if (by_size) figure.caption += "Colour shows parameters. ";
  if (unfinished)
    figure.caption +=
        "Broken lines are runs that diverged or failed; they leave the picture where their loss exceeds that of every "
        "finished run. ";
  figure.spec = layered_spec(figure.title + ". " + figure.caption, std::move(rows), std::move(layers),
                             by_size && sweep.variants.size() > 1, sweep);
  figures.drawn.push_back(std::move(figure));
}

void add_depth_width(const Sweep& sweep, Figures& figures) {
  Figure figure{.id = "depth-width", .title = "Depth and width", .caption = {}, .spec = {}};
  std::map<std::string, std::map<std::pair<double, double>, Tile>> tiles;
  std::set<std::pair<double, double>> sizes;
  Extent loss;
  size_t most = 0;
  for (const Cell& cell : sweep.cells) {
    if (!cell.depth || !cell.model_dim) continue;
    sizes.insert({*cell.depth, *cell.model_dim});
    Tile& tile = tiles[cell.variant][{*cell.depth, *cell.model_dim}];
    most = std::max(most, ++tile.cells);
    if (!cell.loss) tile.trouble = cell.trouble;
    else if (!tile.best || cell.loss->mean < tile.best->loss->mean) tile.best = &cell;
  }
  Json rows = Json::array();
  for (const auto& [variant, by_size] : tiles)
    for (const auto& [size, tile] : by_size)
      if (tile.best) loss.add(tile.best->loss->mean);
  if (sizes.size() < 2 || loss.empty()) {
    figures.missing.push_back(
        {figure.id, figure.title,
         loss.empty() ? "No run finished with a loss." : "All runs have one depth and one width."});
    return;
  }
  for (const auto& [variant, by_size] : tiles)
    for (const auto& [size, tile] : by_size)
      rows.push_back(tile_row(variant, size.first, size.second, tile, loss.low(), loss.high()));
  figure.caption = "Mean validation loss at each depth and width; lighter is better. ";
  if (most > 1) figure.caption += "Where other settings were swept too, the best of them is shown. ";
  figure.caption += "A dashed tile has no finished run.";
  std::vector<Json> layers = tile_layers(rows, loss.low(), loss.high());
  figure.spec = layered_spec(figure.title + ". " + figure.caption, std::move(rows), std::move(layers),
                             sweep.variants.size() > 1, sweep);
  Json& panel = figure.spec.contains("facet") ? figure.spec["spec"] : figure.spec;
  std::set<double> depths;
  for (const auto& [depth, width] : sizes) depths.insert(depth);
  panel["height"] = std::clamp<size_t>(depths.size() * 46, 70, 420);
  figures.drawn.push_back(std::move(figure));
}

}  // namespace attnscale
