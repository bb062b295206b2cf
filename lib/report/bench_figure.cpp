#include "report/bench_figure.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "core/error.h"
#include "report/figure_parts.h"

namespace attnscale {
namespace {

/// Of one variant, at the longest length that it and softmax were timed at.
struct Multiples {
  double length = 0, time = 0, memory = 0;
};

std::map<std::string, std::map<double, const Json*>> rows_by_variant(const Json& bench) {
  std::map<std::string, std::map<double, const Json*>> result;
  for (const auto& row : bench["rows"]) result[row["variant"].get<std::string>()][row["length"].get<double>()] = &row;
  return result;
}

std::optional<Multiples> multiples(const std::map<double, const Json*>& own,
                                   const std::map<double, const Json*>& base) {
  const auto time = [](const Json& row) { return row["forward_backward_ms"]["median"].get<double>(); };
  const auto memory = [](const Json& row) { return row["peak_bytes"].get<double>(); };
  for (auto at = own.rbegin(); at != own.rend(); ++at) {
    const auto of_base = base.find(at->first);
    if (of_base == base.end()) continue;
    const Json &mine = *at->second, &other = *of_base->second;
    return Multiples{at->first, time(mine) / time(other), memory(mine) / memory(other)};
  }
  return std::nullopt;
}

Json log_axis(const char* field, const std::string& title, Json domain) {
  Json scale = {{"type", "log"}};
  if (!domain.is_null()) scale["domain"] = std::move(domain);
  return {
      {"field", field},
      {"type", "quantitative"},
      {"scale", std::move(scale)},
      {"axis", {{"title", title}, {"grid", true}, {"tickCount", 5}, {"format", axis_number}, {"labelOverlap", true}}}};
}

/// A panel with a row for each variant; names only on the first one.
Json panel(const Json& y, bool with_names, int width, std::vector<Json> layers) {
  Json rows = y;
  if (!with_names) rows["axis"].update({{"labels", false}, {"minExtent", 0}});
  for (auto& layer : layers) layer["encoding"]["y"] = rows;
  return {{"width", width}, {"height", {{"step", 15}}}, {"layer", std::move(layers)}};
}

Json filtered(const std::string& condition, Json mark, Json encoding) {
  return {{"transform", Json::array({{{"filter", condition}}})},
          {"mark", std::move(mark)},
          {"encoding", std::move(encoding)}};
}

}  // namespace

Figure attention_cost_figure(const Json& bench) {
  const auto by_variant = rows_by_variant(bench);
  const auto base = by_variant.find("softmax");
  if (base == by_variant.end())
    throw ConfigError("the figure shows every variant against softmax, which was not timed; add it to --variants");
  const double first = base->second.begin()->first, last = base->second.rbegin()->first;

  Json rows = Json::array(), order = Json::array(), families = Json::array();
  for (const auto& variant : bench["variants"]) {
    const auto name = variant["variant"].get<std::string>();
    const auto own = by_variant.find(name);
    const auto at_end = own == by_variant.end() ? std::nullopt : multiples(own->second, base->second);
    if (!at_end) continue;
    const auto shown = name + (variant.value("with_projections", false) ? "*" : "");
    Json row = {{"variant", shown},
                {"family", variant["family"]},
                {"length", at_end->length},
                {"time", rounded(at_end->time)},
                {"memory", rounded(at_end->memory)},
                {"kind", "reference"}};
    if (variant.contains("crossover")) {
      const auto& cross = variant["crossover"];
      row["kind"] = cross["kind"];
      row["x"] = cross.value("length", cross["kind"] == "always" ? first : last);
      row["low"] = cross.value("low", row["x"].get<double>());
      row["high"] = cross.value("high", row["x"].get<double>());
    }
    order.push_back(shown);
    if (std::find(families.begin(), families.end(), variant["family"]) == families.end())
      families.push_back(variant["family"]);
    rows.push_back(std::move(row));
  }

  Figure figure{.id = "attention-cost", .title = "Cost of attention against softmax", .caption = {}, .spec = {}};
  figure.caption = fmt::format(
      "Forward and backward at the variants' defaults, {} threads, {}. Left: the length from which on a variant is "
      "faster "
      "than softmax (bar: range over the repetitions); < faster at every length measured, x at none. Right: time and "
      "memory at {:.0f} positions, as multiples of softmax's; hollow where the longest length timed was shorter. "
      "A star: timed with its own projections, which the others leave to the layer around them.",
      bench["threads"].dump(), bench["dtype"].get<std::string>(), last);
  const Json y = {{"field", "variant"},
                  {"type", "nominal"},
                  {"scale", {{"domain", order}}},
                  {"axis", {{"title", nullptr}, {"labelLimit", 160}, {"minExtent", 145}, {"grid", true}}}};
  const Json colour = {
      {"field", "family"}, {"type", "nominal"}, {"scale", {{"domain", families}}}, {"legend", {{"title", nullptr}}}};
  const auto point = [](const char* shape, bool filled) -> Json {
    return {{"type", "point"}, {"shape", shape}, {"filled", filled}, {"size", 55}, {"opacity", 1}};
  };
  const Json x = log_axis("x", "faster than softmax from (positions)", {first / 1.3, last * 1.3});
  Json low = x, high = {{"field", "high"}};
  low["field"] = "low";
  std::vector<Json> crossing = {
      filtered("datum.kind === 'at'", {{"type", "rule"}, {"style", "bar"}},
               {{"x", low}, {"x2", high}, {"color", colour}}),
      filtered("datum.kind === 'at'", point("circle", true), {{"x", x}, {"color", colour}}),
      filtered("datum.kind === 'always'", point("triangle-left", true), {{"x", x}, {"color", colour}}),
      filtered("datum.kind === 'never'", {{"type", "text"}, {"text", "\u00d7"}, {"fontSize", 13}},
               {{"x", x}, {"color", colour}})};
  const auto against_softmax = [&](const char* field, const std::string& title) {
    const Json axis = log_axis(field, title, nullptr);
    const auto whole = fmt::format("datum.length === {:.0f}", last),
               part = fmt::format("datum.length !== {:.0f}", last);
    return std::vector<Json>{{{"data", {{"values", Json::array({{{"one", 1}}})}}},
                              {"mark", {{"type", "rule"}, {"style", "truth"}}},
                              {"encoding", {{"x", {{"field", "one"}, {"type", "quantitative"}}}}}},
                             filtered(whole, point("circle", true), {{"x", axis}, {"color", colour}}),
                             filtered(part, point("circle", false), {{"x", axis}, {"color", colour}})};
  };
  const auto ratio_panel = [&](const char* field, const std::string& title) {
    Json result = panel(y, false, 200, against_softmax(field, title));
    result["layer"][0]["encoding"].erase("y");
    return result;
  };
  figure.spec = {
      {"$schema", "https://vega.github.io/schema/vega-lite/v5.json"},
      {"description", figure.title + ". " + figure.caption},
      {"data", {{"values", std::move(rows)}}},
      {"hconcat", Json::array({panel(y, true, 260, std::move(crossing)), ratio_panel("time", "time / softmax"),
                               ratio_panel("memory", "memory / softmax")})}};
  return figure;
}

}  // namespace attnscale
