#include "report/drawing.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "report/figure_parts.h"
#include "report/run_query.h"

namespace attnscale {
namespace {

/// Where a point belongs: panel, curve, x.
using Place = std::tuple<std::string, std::string, double>;

struct Points {
  std::map<Place, std::vector<double>> by_place;
  std::vector<Json> curves, panels;  ///< values that occur, ascending
};

std::string name_of(const Json& value) {
  if (value.is_null()) return "none";
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

double number_of(const char* part, const Json& value) {
  if (!value.is_number())
    throw ConfigError(fmt::format("{}: is {}; expected a number, or a list of numbers", part, describe_value(value)));
  return value.get<double>();
}

void note(const Json& value, std::vector<Json>& values) {
  if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
}

/// Numbers by size, texts as they came.
Json sorted_names(std::vector<Json> values) {
  std::stable_sort(values.begin(), values.end(),
                   [](const Json& a, const Json& b) { return a.is_number() && b.is_number() && a < b; });
  Json names = Json::array();
  for (const auto& value : values) names.push_back(name_of(value));
  return names;
}

Points points_of(const RunTable& table, const Drawing& drawing) {
  // One after the other, so that each part may be any formula.
  const auto column = [&](const std::string& formula) {
    return formula.empty() ? RunAnswer{} : ask(table, {.where = drawing.where, .columns = formula});
  };
  const auto ys = column(drawing.y), xs = column(drawing.x), by = column(drawing.by), panel = column(drawing.panel);
  Points points;
  for (size_t row = 0; row < ys.rows.size(); ++row) {
    const auto cell = [&](const RunAnswer& answer) { return answer.rows.empty() ? Json() : answer.rows[row][0]; };
    const Json y = cell(ys), x = cell(xs);
    if (y.is_null()) continue;  // a run that did not finish, or was not watched
    const auto add = [&](double at, double value) {
      if ((drawing.log_x && at <= 0) || (drawing.log_y && value <= 0))
        throw ConfigError(
            fmt::format("{} is not above 0, which a logarithmic axis needs", drawing.log_x && at <= 0 ? at : value));
      points.by_place[{name_of(cell(panel)), name_of(cell(by)), at}].push_back(value);
    };
    note(cell(by), points.curves);
    note(cell(panel), points.panels);
    if (!y.is_array()) {
      if (drawing.x.empty()) throw ConfigError("--x: is missing, and y is one number; say what it is drawn against");
      add(number_of("--x", x), number_of("--y", y));
      continue;
    }
    if (!drawing.x.empty() && !x.is_array())
      throw ConfigError(
          fmt::format("--x: is {}, and y is a list of {}; expected a list of as many, or leave --x out for "
                      "the items' places",
                      describe_value(x), y.size()));
    if (x.is_array() && x.size() != y.size())
      throw ConfigError(
          fmt::format("--x: is a list of {}, and y one of {}; expected equal lengths", x.size(), y.size()));
    for (size_t i = 0; i < y.size(); ++i)
      if (!y[i].is_null())
        add(x.is_array() ? number_of("--x", x[i]) : static_cast<double>(i + 1), number_of("--y", y[i]));
  }
  if (points.by_place.empty()) throw ConfigError("there is nothing to draw: no run has a value of y");
  return points;
}

Json axis_of(const char* field, const std::string& title, const Extent& extent, bool log) {
  Json scale = {{"type", "linear"}, {"zero", false}},
       axis = {{"title", title}, {"format", axis_number}, {"labelOverlap", true}};
  if (log) {
    scale = {{"type", "log"}, {"domain", extent.log_domain()}, {"nice", false}};
    axis["values"] = extent.log_ticks();
  }
  return {{"field", field}, {"type", "quantitative"}, {"scale", scale}, {"axis", axis}};
}

}  // namespace

std::string left_out_of(const RunTable& table, const Drawing& drawing) {
  const auto ys = ask(table, {.where = drawing.where, .columns = drawing.y});
  const auto states = ask(table, {.where = drawing.where, .columns = "status"});
  std::map<std::string, size_t> counts;
  size_t all = 0;
  for (size_t row = 0; row < ys.rows.size(); ++row) {
    if (!ys.rows[row][0].is_null()) continue;
    ++counts[states.rows[row][0].is_null() ? "without a status" : name_of(states.rows[row][0])];
    ++all;
  }
  if (all == 0) return "";
  std::vector<std::string> parts;
  for (const auto& [state, count] : counts) parts.push_back(fmt::format("{} {}", count, state));
  return fmt::format("{} of {} runs have no {} and are left out: {}", all, ys.rows.size(), drawing.y,
                     fmt::join(parts, ", "));
}

Figure drawing_of(const RunTable& table, const Drawing& drawing) {
  const auto points = points_of(table, drawing);
  Json rows = Json::array();
  Extent x_extent, y_extent;
  bool several = false;
  for (const auto& [place, values] : points.by_place) {
    const auto& [panel, curve, x] = place;
    const auto spread = spread_of(values);
    several |= spread.count > 1;
    x_extent.add(x), y_extent.add(spread.low), y_extent.add(spread.high);
    rows.push_back({{"panel", panel},
                    {"curve", curve},
                    {"x", rounded(x)},
                    {"y", rounded(spread.mean)},
                    {"low", rounded(spread.low)},
                    {"high", rounded(spread.high)}});
  }
  Figure figure{.id = "drawing", .title = fmt::format("{} of runs", drawing.y), .caption = {}, .spec = {}};
  figure.caption = fmt::format("Means over runs{}.", several ? "; bars: lowest to highest" : "");
  const auto title = [](const std::string& given, const std::string& formula) {
    return given.empty() ? formula : given;
  };
  const Json x = axis_of("x", title(drawing.x_title, drawing.x.empty() ? "place in the list" : drawing.x), x_extent,
                         drawing.log_x);
  const Json y = axis_of("y", title(drawing.y_title, drawing.y), y_extent, drawing.log_y);
  const bool numbers =
      std::all_of(points.curves.begin(), points.curves.end(), [](const Json& value) { return value.is_number(); });
  Json colour = {{"field", "curve"},
                 {"type", numbers ? "ordinal" : "nominal"},
                 {"scale", {{"domain", sorted_names(points.curves)}}},
                 {"legend", {{"title", drawing.by}}}};
  if (numbers) colour["scale"].update(ordered_colours());
  if (drawing.by.empty()) colour["legend"] = nullptr;
  Json low = y;
  low["field"] = "low";
  Json layers = Json::array(
      {{{"mark", {{"type", "line"}, {"style", "curve"}}}, {"encoding", {{"x", x}, {"y", y}, {"color", colour}}}},
       {{"mark", {{"type", "rule"}, {"style", "bar"}}},
        {"encoding", {{"x", x}, {"y", low}, {"y2", {{"field", "high"}}}, {"color", colour}}}},
       {{"mark", {{"type", "point"}, {"filled", true}, {"size", 28}, {"opacity", 1}}},
        {"encoding", {{"x", x}, {"y", y}, {"color", colour}}}}});
  figure.spec = {{"$schema", "https://vega.github.io/schema/vega-lite/v5.json"},
                 {"description", figure.title + ". " + figure.caption},
                 {"data", {{"values", std::move(rows)}}}};
  if (const auto left_out = left_out_of(table, drawing); !left_out.empty())
    figure.spec["title"] = {{"text", left_out}, {"anchor", "start"}, {"fontSize", 11}, {"fontWeight", "normal"}};
  if (drawing.panel.empty()) {
    figure.spec["width"] = 420;
    figure.spec["height"] = 280;
    figure.spec["layer"] = std::move(layers);
    return figure;
  }
  figure.spec["facet"] = {{"field", "panel"},
                          {"type", "nominal"},
                          {"sort", sorted_names(points.panels)},
                          {"header", {{"title", drawing.panel}}}};
  figure.spec["columns"] = 3;
  figure.spec["spec"] = {{"width", 220}, {"height", 200}, {"layer", std::move(layers)}};
  return figure;
}

}  // namespace attnscale
