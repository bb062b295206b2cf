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
            {"format", "~s"},
            {"labelOverlap", "greedy"},
            {"labelSeparation", 6},
            {"tickCount", 8},
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
            {"format", logarithmic ? "~g"
                       : fine      ? ".4f"
                                   : "~g"},
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

Json ramp_colour(const Quantity& quantity) {
  return {{"field", quantity.field},
          {"type", "quantitative"},
          {"scale", {{"type", "log"}, {"nice", false}}},
          {"legend", {{"title", quantity.name}, {"format", "~s"}, {"tickCount", 3}, {"labelOverlap", "greedy"}}}};
}

Json cell_tooltip(const std::string& value_title) {
  return {{{"field", "variant"}, {"title", "attention"}},
          {{"field", "depth"}, {"title", "depth"}},
          {{"field", "model_dim"}, {"title", "width"}},
          {{"field", "params"}, {"title", "parameters"}, {"format", ","}},
          {{"field", "tokens"}, {"title", "training tokens"}, {"format", ","}},
          {{"field", "flops"}, {"title", "training FLOPs"}, {"format", ".3e"}},
          {{"field", "y"}, {"title", value_title}, {"format", ".4f"}},
          {{"field", "low"}, {"title", "lowest seed"}, {"format", ".4f"}},
          {{"field", "high"}, {"title", "highest seed"}, {"format", ".4f"}},
          {{"field", "seeds"}, {"title", "seeds"}},
          {{"field", "settings"}, {"title", "settings"}}};
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

std::vector<Json> truth_layers(const Sweep& sweep) {
  if (!sweep.truth) return {};
  const Json values = {{"values", Json::array({{{"truth", sweep.truth->loss}}})}};
  const Json y = {{"field", "truth"}, {"type", "quantitative"}};
  const std::string name = fmt::format("{} {}, the best possible", sweep.truth->name, loss_text(sweep.truth->loss));
  return {{{"data", values}, {"mark", {{"type", "rule"}, {"style", "truth"}}}, {"encoding", {{"y", y}}}},
          {{"data", values},
           {"mark",
            {{"type", "text"},
             {"style", "truth-label"},
             {"text", name},
             {"align", "left"},
             {"baseline", "bottom"},
             {"dx", 6},
             {"dy", -3}}},
           {"encoding", {{"y", y}, {"x", {{"value", 0}}}}}}};
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

std::string label(const std::string& name) {
  const std::string clean = readable(name);
  size_t shown = 0;
  for (size_t i = 0; i < clean.size(); ++i)
    if ((clean[i] & 0xC0) != 0x80 && ++shown > 60) return clean.substr(0, i) + "…";
  return clean;
}

}  // namespace attnscale
