#include "report/optimum_figure.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/json_paths.h"
#include "report/figure_parts.h"

namespace attnscale {
namespace {

/// Short, for legends: texts without their path.
std::string label_of(const Json& setting) {
  std::vector<std::string> parts;
  for (const auto& [path, value] : setting["by"].items())
    parts.push_back(value.is_string() ? value.get<std::string>()
                                      : fmt::format("{} {}", last_part(path), value.is_null() ? "none" : value.dump()));
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

Figure optimum_figure(const Json& report) {
  if (report["settings"].empty()) throw ConfigError("no setting of this sweep has an optimum to draw");
  const bool moves = report.contains("along");
  const auto of = last_part(report["of"].get<std::string>());
  Json rows = Json::array(), order = Json::array();
  Extent x_extent, y_extent;
  for (const auto& setting : report["settings"]) {
    const auto name = label_of(setting);
    if (std::find(order.begin(), order.end(), name) == order.end()) order.push_back(name);
    Json base = {{"setting", name}};
    if (moves) base["along"] = setting["along"];
    for (size_t i = 0; i < setting["values"].size(); ++i) {
      if (setting["losses"][i].is_null()) continue;
      Json row = base;
      row["kind"] = "mean";
      row["x"] = setting["values"][i];
      row["y"] = rounded(setting["losses"][i].get<double>());
      row["low"] = rounded(setting["ranges"][i][0].get<double>());
      row["high"] = rounded(setting["ranges"][i][1].get<double>());
      x_extent.add(row["x"].get<double>());
      y_extent.add(row["low"].get<double>());
      y_extent.add(row["high"].get<double>());
      rows.push_back(std::move(row));
    }
    Json best = base;
    const auto& optimum = setting["optimum"];
    best["kind"] = "best";
    best["x"] = rounded(optimum["value"].get<double>());
    best["left"] = rounded(optimum.value("low", optimum["value"].get<double>()));
    best["right"] = rounded(optimum.value("high", optimum["value"].get<double>()));
    best["y"] = rounded(setting["loss"]["value"].get<double>());
    y_extent.add(best["y"].get<double>());
    rows.push_back(std::move(best));
  }
  // Wide intervals would squeeze the curves into a corner: bars end at the frame.
  const Json domain = x_extent.log_domain();
  for (auto& row : rows)
    for (const char* end : {"left", "right"})
      if (row.contains(end))
        row[end] = std::clamp(row[end].get<double>(), domain[0].get<double>(), domain[1].get<double>());

  Figure figure{.id = "optimum", .title = fmt::format("Loss against {}", of), .caption = {}, .spec = {}};
  figure.caption = fmt::format(
      "Mean validation loss at each {0}, bars: range over seeds. Diamonds: the {0} of least loss, with its {1:.0f} % "
      "interval along the axis.",
      of, 100 * report["level"].get<double>());
  const Json x = {
      {"field", "x"},
      {"type", "quantitative"},
      {"scale", {{"type", "log"}, {"domain", domain}, {"nice", false}}},
      {"axis", {{"title", of}, {"values", x_extent.log_ticks()}, {"format", axis_number}, {"labelOverlap", true}}}};
  const Json y = loss_y("validation loss (nats per token)", y_extent);
  Json colour = {
      {"field", "setting"}, {"type", "nominal"}, {"scale", {{"domain", order}}}, {"legend", {{"title", nullptr}}}};
  if (moves)
    colour = {{"field", "along"},
              {"type", "ordinal"},
              {"scale", ordered_colours()},
              {"legend", {{"title", last_part(report["along"].get<std::string>())}}}};
  const auto layer = [&](const std::string& kind, Json mark, Json encoding) -> Json {
    encoding["color"] = colour;
    return {{"transform", Json::array({{{"filter", fmt::format("datum.kind === '{}'", kind)}}})},
            {"mark", std::move(mark)},
            {"encoding", std::move(encoding)}};
  };
  Json layers = Json::array(
      {layer("mean", {{"type", "line"}}, {{"x", x}, {"y", y}}),
       layer("mean", {{"type", "rule"}, {"style", "bar"}},
             {{"x", x},
              {"y",
               [&] {
                 Json low = y;
                 low["field"] = "low";
                 return low;
               }()},
              {"y2", {{"field", "high"}}}}),
       layer("mean", {{"type", "point"}, {"filled", true}, {"size", 25}, {"opacity", 1}}, {{"x", x}, {"y", y}}),
       layer("best", {{"type", "rule"}, {"style", "bar"}},
             {{"x",
               [&] {
                 Json left = x;
                 left["field"] = "left";
                 return left;
               }()},
              {"x2", {{"field", "right"}}},
              {"y", y}}),
       layer("best", {{"type", "point"}, {"shape", "diamond"}, {"filled", true}, {"size", 90}, {"opacity", 1}},
             {{"x", x}, {"y", y}})});
  figure.spec = {{"$schema", "https://vega.github.io/schema/vega-lite/v5.json"},
                 {"description", figure.title + ". " + figure.caption},
                 {"data", {{"values", std::move(rows)}}}};
  if (moves && order.size() > 1) {
    figure.spec["facet"] = {
        {"field", "setting"}, {"type", "nominal"}, {"sort", order}, {"header", {{"title", nullptr}}}};
    figure.spec["columns"] = 2;
    figure.spec["spec"] = {{"width", 300}, {"height", 260}, {"layer", std::move(layers)}};
  } else {
    figure.spec["width"] = 420;
    figure.spec["height"] = 280;
    figure.spec["layer"] = std::move(layers);
  }
  return figure;
}

}  // namespace attnscale
