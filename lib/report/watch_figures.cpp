// One run from the inside: norms, activations and attention of its layers, as train.watch_every saw them.

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "report/figure_parts.h"

namespace attnscale {
namespace {

struct Shown {
  const char* name;   ///< in the row's `watch.layers`
  const char* title;  ///< of its panel
};

constexpr std::array kShown = {Shown{"gradient_norm", "gradient norm"},
                               Shown{"weight_norm", "weight norm"},
                               Shown{"update_norm", "update norm"},
                               Shown{"stream_rms", "residual stream, rms"},
                               Shown{"attention_share", "attention entropy, share of uniform"},
                               Shown{"logit_max", "largest attention logit"},
                               Shown{"dead_units", "dead feed-forward units, share"}};

/// The watched run to look at: with most alarms, among these the largest.
size_t most_telling(const Sweep& sweep) {
  size_t best = sweep.runs.size();
  const auto rank = [&](size_t i) {
    return std::pair(at_path(sweep.rows[i], "alarms").size(), sweep.runs[i].params.value_or(0));
  };
  for (size_t i = 0; i < sweep.runs.size(); ++i)
    if (at_path(sweep.rows[i], "watch.layers").is_object() && (best == sweep.runs.size() || rank(i) > rank(best)))
      best = i;
  return best;
}

void add_points(const Json& steps, const Json& values, const Json& point, Json& rows) {
  if (!steps.is_array() || !values.is_array()) return;
  for (size_t i = 0; i < std::min(steps.size(), values.size()); ++i) {
    if (!steps[i].is_number() || !values[i].is_number()) continue;
    Json row = point;
    row["x"] = steps[i];
    row["y"] = rounded(values[i].get<double>());
    rows.push_back(std::move(row));
  }
}

}  // namespace

void add_watch(const Sweep& sweep, Figures& figures) {
  const size_t shown = most_telling(sweep);
  if (shown == sweep.runs.size()) return;  // nobody asked for it
  const Run& run = sweep.runs[shown];
  const Json& watch = at_path(sweep.rows[shown], "watch");
  const Json& steps = at_path(watch, "steps");
  Json rows = Json::array(), titles = Json::array();
  for (const auto& [name, title] : kShown) {
    const size_t before = rows.size();
    for (const auto& [layer, numbers] : at_path(watch, "layers").items())
      if (numbers.contains(name)) add_points(steps, numbers[name], {{"what", title}, {"layer", label(layer)}}, rows);
    if (rows.size() > before) titles.push_back(title);
  }
  const char* noise = "gradient noise scale, windows";
  const size_t before = rows.size();
  add_points(at_path(watch, "noise_scale.steps"), at_path(watch, "noise_scale.windows"),
             {{"what", noise}, {"layer", "all"}}, rows);
  if (rows.size() > before) titles.push_back(noise);

  Figure figure{.id = "watch", .title = "Inside a run", .caption = {}, .spec = {}};
  figure.caption = fmt::format(
      "Layers of {} (run {}, {} parameters) while it trained, at the steps that train.watch_every looked at: norms of "
      "gradients (before clipping), weights and updates; the residual stream after each block; the entropy of "
      "attention "
      "as a share of a uniform one's; the largest logit. Each panel has its own scale.",
      label(run.variant), label(run.id), run.params.value_or(0));
  Json spec = layered_spec(figure.title + ". " + figure.caption, std::move(rows), {}, true, sweep);
  spec["facet"] = {{"field", "what"}, {"type", "nominal"}, {"title", nullptr}, {"sort", titles}};
  spec["columns"] = 3;
  spec["spacing"] = 24;
  spec["resolve"] = {{"scale", {{"y", "independent"}}}};
  spec["spec"] = {
      {"width", 190},
      {"height", 140},
      {"mark", {{"type", "line"}, {"style", "curve"}}},
      {"encoding",
       {{"x", {{"field", "x"}, {"type", "quantitative"}, {"axis", {{"title", "step"}, {"tickCount", 4}}}}},
        {"y",
         {{"field", "y"},
          {"type", "quantitative"},
          {"scale", {{"zero", false}}},
          {"axis", {{"title", nullptr}, {"format", ",.3~r"}, {"tickCount", 4}}}}},
        {"color", {{"field", "layer"}, {"type", "nominal"}, {"title", "layer"}}},
        {"tooltip",
         {{{"field", "layer"}}, {{"field", "x"}, {"title", "step"}}, {{"field", "y"}, {"title", "value"}}}}}}};
  figure.spec = std::move(spec);
  figures.drawn.push_back(std::move(figure));
}

}  // namespace attnscale
