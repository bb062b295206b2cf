#include "report/figure_parts.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "report/text.h"

namespace attnscale {

Quantity parameters_quantity() { return {&Cell::params, "parameters", "parameters", "params"}; }
Quantity tokens_quantity() { return {&Cell::tokens, "training tokens", "training tokens", "tokens"}; }
Quantity flops_quantity() { return {&Cell::flops, "training compute", "training compute (FLOPs)", "flops"}; }

void Extent::add(double value) {
  low_ = std::min(low_, value);
  high_ = std::max(high_, value);
}

Json Extent::log_domain() const {
  if (low_ == high_) return {low_ / 2, high_ * 2};
  const double air = std::pow(high_ / low_, 0.05);
  return {low_ / air, high_ * air};
}

Json Extent::log_ticks() const {
  const Json domain = log_domain();
  const double low = domain[0], high = domain[1];
  const auto ticks = [&](const std::vector<int>& digits) {
    Json values = Json::array();
    for (int power = static_cast<int>(std::floor(std::log10(low))); power <= std::log10(high); ++power)
      for (const int digit : digits) {
        const double value = digit * std::pow(10.0, power);
        if (value >= low && value <= high) values.push_back(value);
      }
    return values;
  };
  if (const double decades = std::log10(high / low); decades > 3.5) return ticks({1});
  const Json sparse = ticks({1, 2, 5});
  return sparse.size() >= 3 ? sparse : ticks({1, 2, 3, 4, 5, 6, 7, 8, 9});
}

Json Extent::loss_scale() const {
  if (low_ > 0 && high_ > 5 * low_) return {{"type", "log"}, {"domain", log_domain()}, {"nice", false}};
  const double air = high_ > low_ ? 0.06 * (high_ - low_) : std::max(0.05 * std::abs(high_), 1e-3);
  return {{"type", "linear"}, {"domain", {low_ - air, high_ + air}}, {"nice", false}, {"zero", false}};
}

std::vector<double> distinct(const Sweep& sweep, std::optional<double> Cell::*member) {
  std::set<double> values;
  for (const Cell& cell : sweep.cells)
    if (cell.loss && cell.*member) values.insert(*(cell.*member));
  return {values.begin(), values.end()};
}

Json log_x(const Quantity& quantity, const Extent& extent, const std::string& field) {
  return {{"field", field},
          {"type", "quantitative"},
          {"scale", {{"type", "log"}, {"domain", extent.log_domain()}, {"nice", false}}},
          {"axis",
           {{"title", quantity.title},
            {"labelExpr", "format(datum.value, '~s')"},
            {"values", extent.log_ticks()},
            {"labelOverlap", "greedy"},
            {"labelSeparation", 6},
            {"labelFlush", false}}}};
}

Json loss_y(const std::string& title, const Extent& extent, const std::string& field) {
  Json scale = extent.loss_scale();
  const bool fine = extent.high() - extent.low() < 0.05;
  const bool logarithmic = scale["type"] == "log";
  return {{"field", field},
          {"type", "quantitative"},
          {"scale", std::move(scale)},
          {"axis",
           {{"title", title},
            {"format", fine && !logarithmic ? ".4f" : axis_number},
            {"tickCount", 6},
            {"labelOverlap", "greedy"}}}};
}

Json variant_colour(const Sweep& sweep) {
  Json domain = Json::array();
  for (const std::string& variant : sweep.variants) domain.push_back(label(variant));
  return {{"field", "variant"}, {"type", "nominal"}, {"scale", {{"domain", domain}}}, {"title", "attention"}};
}

Json variant_shape(const Sweep& sweep) {
  Json shape = variant_colour(sweep);
  shape["scale"]["range"] = {"circle",        "square", "triangle-up",   "diamond",
                             "triangle-down", "cross",  "triangle-left", "triangle-right"};
  return shape;
}

Json ordered_colours() {
  const Json legible = {0.85, 0.15};  // of the scheme; its ends vanish into the ground
  return {{"scheme", {{"name", "plasma"}, {"extent", legible}}}};
}

Json ramp_colour(const Sweep& sweep, const Quantity& quantity) {
  const std::vector<double> values = distinct(sweep, quantity.member);
  Json named = Json::array();
  double last = 0;
  for (const double value : values) {
    // Names stay a quarter of the ramp apart, the largest always among them.
    const double room = std::pow(values.back() / values.front(), 0.25) * 0.999;
    const bool fits = named.empty() || (value >= last * room && values.back() >= value * room);
    if (!fits && value != values.back()) continue;
    named.push_back(value);
    last = value;
  }
  return {{"field", quantity.field},
          {"type", "quantitative"},
          {"scale", {{"type", "log"}, {"nice", false}}},
          {"legend", {{"type", "gradient"}, {"title", quantity.name}, {"format", ".3~s"}, {"values", named}}}};
}

Json cell_tooltip(const Json& rows, const std::string& value_title) {
  static const std::vector<std::vector<std::string>> entries = {{"variant", "attention", ""},
                                                                {"depth", "depth", ""},
                                                                {"model_dim", "width", ""},
                                                                {"params", "parameters", ","},
                                                                {"tokens", "training tokens", ","},
                                                                {"flops", "training FLOPs", ".3e"},
                                                                {"y", "", ".4f"},
                                                                {"low", "lowest seed", ".4f"},
                                                                {"high", "highest seed", ".4f"},
                                                                {"seeds", "seeds", ""},
                                                                {"settings", "settings", ""}};
  Json tooltip = Json::array();
  for (const auto& entry : entries) {
    const std::string& name = entry[0];
    const bool everywhere = std::all_of(rows.begin(), rows.end(), [&](const Json& row) {
      return !row.contains("seeds") || (row.contains(name) && row[name] != "");
    });
    if (!everywhere) continue;
    Json line = {{"field", name}, {"title", entry[1].empty() ? value_title : entry[1]}};
    if (!entry[2].empty()) line["format"] = entry[2];
    tooltip.push_back(std::move(line));
  }
  return tooltip;
}

Json mean_row(const Cell& cell, double x, const Spread& spread) {
  Json row = {{"kind", "mean"},
              {"variant", label(cell.variant)},
              {"x", x},
              {"y", spread.mean},
              {"low", spread.low},
              {"high", spread.high},
              {"seeds", spread.count},
              {"settings", label(cell.settings)}};
  const auto add = [&](const char* name, const std::optional<double>& value) {
    if (value) row[name] = *value;
  };
  add("depth", cell.depth);
  add("model_dim", cell.model_dim);
  add("params", cell.params);
  add("tokens", cell.tokens);
  add("flops", cell.flops);
  return row;
}

std::vector<double> log_spaced(double low, double high, size_t count) {
  std::vector<double> values;
  for (size_t i = 0; i < count; ++i) {
    values.push_back(low * std::pow(high / low, static_cast<double>(i) / static_cast<double>(count - 1)));
  }
  return values;
}

Json only(const std::string& kind) { return Json::array({{{"filter", "datum.kind === '" + kind + "'"}}}); }

std::vector<Json> truth_rule(const Sweep& sweep) {
  if (!sweep.truth) return {};
  const Json values = {{"values", Json::array({{{"truth", sweep.truth->loss}}})}};
  const Json y = {{"field", "truth"}, {"type", "quantitative"}};
  return {{{"data", values}, {"mark", {{"type", "rule"}, {"style", "truth"}}}, {"encoding", {{"y", y}}}}};
}

Json rule_label(const Json& data, const std::string& field, const std::string& text, const std::string& style) {
  return {{"data", data},
          {"mark",
           {{"type", "text"},
            {"style", style},
            {"text", text},
            {"align", "left"},
            {"baseline", "bottom"},
            {"dx", 6},
            {"dy", -3}}},
          {"encoding", {{"y", {{"field", field}, {"type", "quantitative"}}}, {"x", {{"value", 0}}}}}};
}

std::vector<Json> truth_label(const Sweep& sweep) {
  if (!sweep.truth) return {};
  const Json values = {{"values", Json::array({{{"truth", sweep.truth->loss}}})}};
  const std::string name = fmt::format("{} {}, the best possible", sweep.truth->name, loss_text(sweep.truth->loss));
  return {rule_label(values, "truth", name, "truth-label-ground"), rule_label(values, "truth", name, "truth-label")};
}

Json seed_bars(const std::string& filter, const Json& x, const Json& colour) {
  return {{"transform", Json::array({{{"filter", filter}}})},
          {"mark", {{"type", "rule"}, {"style", "bar"}}},
          {"encoding",
           {{"x", x},
            {"y", {{"field", "low"}, {"type", "quantitative"}}},
            {"y2", {{"field", "high"}}},
            {"color", colour}}}};
}

Json layered_spec(const std::string& description, Json rows, std::vector<Json> layers, bool by_variant,
                  const Sweep& sweep) {
  Json spec = {{"$schema", "https://vega.github.io/schema/vega-lite/v5.json"},
               {"description", description},
               {"data", {{"values", std::move(rows)}}}};
  if (!by_variant) {
    spec["width"] = 640;
    spec["height"] = 360;
    spec["layer"] = std::move(layers);
    return spec;
  }
  Json order = Json::array();
  for (const std::string& variant : sweep.variants) order.push_back(label(variant));
  spec["facet"] = {{"field", "variant"}, {"type", "nominal"}, {"title", nullptr}, {"sort", order}};
  spec["columns"] = 2;
  spec["spacing"] = 28;
  spec["spec"] = {{"width", 310}, {"height", 240}, {"layer", std::move(layers)}};
  return spec;
}

double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double unit = std::pow(10.0, 5 - std::floor(std::log10(std::abs(value))));
  return std::round(value * unit) / unit;
}

std::string label(const std::string& name) {
  const std::string clean = readable(name);
  size_t shown = 0;
  for (size_t i = 0; i < clean.size(); ++i)
    if ((clean[i] & 0xC0) != 0x80 && ++shown > 60) return clean.substr(0, i) + "…";
  return clean;
}

}  // namespace attnscale
