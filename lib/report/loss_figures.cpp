// Loss against parameters, compute and data: one point per size, the mean over its seeds.

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "report/figure_parts.h"
#include "report/text.h"

namespace attnscale {
namespace {

const char* const kLoss = "validation loss (nats per token)";
std::string seeds_sentence(const Sweep& sweep) {
  const bool repeated = std::any_of(sweep.cells.begin(), sweep.cells.end(),
                                    [](const Cell& cell) { return cell.loss && cell.loss->count > 1; });
  return repeated ? "Each point is the mean over seeds at one size; its bar runs from the lowest to the highest seed. "
                  : "Each point is one run: with one seed a size, nothing here tells chance from effect. ";
}

/// The law for a variant: its own, else (with one variant only) the one over all runs.
const Law* law_for(const Sweep& sweep, const std::string& variant, const std::string& form) {
  const Law* law = sweep.law(variant, form);
  if (!law && sweep.variants.size() == 1) law = sweep.law("all", form);
  return law && !law->no_law ? law : nullptr;
}

struct LossPicture {
  Quantity x;
  std::optional<Quantity> colour;  ///< a second quantity that varies; then one panel per variant
  std::string loss_title = kLoss;
  std::optional<Spread> Cell::*loss = &Cell::loss;
  bool with_truth = true;
};

/// Rows of kind `mean`; x and y grow the extents.
Json mean_rows(const Sweep& sweep, const LossPicture& picture, Extent& x, Extent& y) {
  Json rows = Json::array();
  for (const Cell& cell : sweep.cells) {
    const auto& at = cell.*picture.x.member;
    const auto& spread = cell.*picture.loss;
    if (!at || *at <= 0 || !spread) continue;
    rows.push_back(mean_row(cell, *at, *spread));
    x.add(*at);
    y.add(spread->low);
    y.add(spread->high);
  }
  if (picture.with_truth && sweep.truth && !y.empty()) y.add(sweep.truth->loss);
  return rows;
}

std::vector<Json> mean_layers(const Sweep& sweep, const LossPicture& picture, const Json& rows, const Extent& x,
                              const Extent& y) {
  const Json colour = picture.colour ? ramp_colour(sweep, *picture.colour) : variant_colour(sweep);
  const Json x_axis = log_x(picture.x, x);
  const Json bar = seed_bars("datum.kind === 'mean' && datum.seeds > 1", x_axis, colour);
  Json point = {{"transform", only("mean")},
                {"mark", {{"type", "point"}, {"filled", true}, {"size", 75}, {"opacity", 1}}},
                {"encoding",
                 {{"x", x_axis},
                  {"y", loss_y(picture.loss_title, y)},
                  {"color", colour},
                  {"tooltip", cell_tooltip(rows, picture.loss_title)}}}};
  if (!picture.colour) point["encoding"]["shape"] = variant_shape(sweep);
  return {bar, point};
}

Json fit_layer(const Sweep& sweep, const LossPicture& picture) {
  return {{"transform", only("fit")},
          {"mark", {{"type", "line"}, {"style", "fit"}, {"clip", true}}},
          {"encoding",
           {{"x", {{"field", "x"}, {"type", "quantitative"}}},
            {"y", {{"field", "y"}, {"type", "quantitative"}}},
            {"color", picture.colour ? ramp_colour(sweep, *picture.colour) : variant_colour(sweep)},
            {"detail", {{"field", "line"}}}}}};
}

/// Fitted curves over the width of the picture. With a colour quantity one curve per value of it (at most 12).
void add_fit_rows(const Sweep& sweep, const LossPicture& picture, const std::string& one_variable_form, const Extent& x,
                  Json& rows, Extent& y) {
  const bool against_parameters = picture.x.field == "params";
  const Quantity other = against_parameters ? tokens_quantity() : parameters_quantity();
  std::vector<double> others = distinct(sweep, other.member);
  while (others.size() > 12) {
    for (size_t i = 1; i < others.size(); ++i) others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
  }
  const Json domain = x.log_domain();
  for (const std::string& variant : sweep.variants) {
    const Law* joint = law_for(sweep, variant, "L(N,D)");
    const Law* single = picture.colour ? nullptr : law_for(sweep, variant, one_variable_form);
    const Law* law = single ? single : joint;
    if (!law || others.empty()) continue;
    for (const double value : others) {
      for (const double at : log_spaced(domain[0], domain[1], 48)) {
        const bool x_is_data = law == single ? law->form == "L(D)" : !against_parameters;
        const double loss = law == single && !x_is_data ? law->at(at, 1)
                            : x_is_data                 ? law->at(value, at)
                                                        : law->at(at, value);
        rows.push_back({{"kind", "fit"},
                        {"variant", label(variant)},
                        {"x", rounded(at)},
                        {"y", rounded(loss)},
                        {"line", variant + exact_text(value)},
                        {other.field, value}});
        if (at >= x.low() && at <= x.high()) y.add(loss);
      }
      if (law == single) break;
    }
  }
}

bool has_fit(const Json& rows) {
  return std::any_of(rows.begin(), rows.end(), [](const Json& row) { return row["kind"] == "fit"; });
}

std::string truth_sentence(const Sweep& sweep) {
  return sweep.truth
             ? fmt::format("The dashed rule is the {} of the source, which no model can beat. ", sweep.truth->name)
             : "";
}

void finish(const Sweep& sweep, const LossPicture& picture, Json rows, const Extent& x, const Extent& y, Figure figure,
            std::vector<Json> behind, Figures& figures) {
  std::vector<Json> layers = std::move(behind);
  if (picture.with_truth)
    for (Json& layer : truth_rule(sweep)) layers.push_back(std::move(layer));
  if (has_fit(rows)) layers.push_back(fit_layer(sweep, picture));
  if (picture.with_truth)
    for (Json& layer : truth_label(sweep)) layers.push_back(std::move(layer));
  for (Json& layer : mean_layers(sweep, picture, rows, x, y)) layers.push_back(std::move(layer));
  figure.spec = layered_spec(figure.title + ". " + figure.caption, std::move(rows), std::move(layers),
                             picture.colour.has_value() && sweep.variants.size() > 1, sweep);
  figures.drawn.push_back(std::move(figure));
}

/// One picture of loss against parameters or tokens.
void add_loss_against(const Sweep& sweep, LossPicture picture, const std::string& form, Figure figure,
                      Figures& figures) {
  Extent x, y;
  Json rows = mean_rows(sweep, picture, x, y);
  if (rows.empty()) {
    figures.missing.push_back({figure.id, figure.title, "No run finished with a loss."});
    return;
  }
  const Quantity other = picture.x.field == "params" ? tokens_quantity() : parameters_quantity();
  if (distinct(sweep, other.member).size() > 1) picture.colour = other;
  if (x.low() < x.high()) add_fit_rows(sweep, picture, form, x, rows, y);
  figure.caption = seeds_sentence(sweep);
  if (has_fit(rows)) figure.caption += "Lines are the fitted law (its numbers stand in the table of fits). ";
  else if (x.low() == x.high()) figure.caption += "With one value on this axis no line can be drawn. ";
  else figure.caption += "scaling.json holds no law for these runs, so no line is drawn. ";
  if (picture.colour) figure.caption += fmt::format("Colour shows {}. ", picture.colour->name);
  figure.caption += truth_sentence(sweep);
  finish(sweep, picture, std::move(rows), x, y, std::move(figure), {}, figures);
}

/// Curves of single runs, thinned so that all of them together stay below a few thousand points.
Json thin_curves(const Sweep& sweep, const Extent& y) {
  Json rows = Json::array();
  const size_t keep = std::clamp<size_t>(6000 / std::max<size_t>(1, sweep.runs.size()), 6, 60);
  for (const Run& run : sweep.runs) {
    if (!run.sound()) continue;
    const size_t stride = std::max<size_t>(1, run.curve.size() / keep);
    for (size_t i = (run.curve.size() - 1) % stride; i < run.curve.size(); i += stride) {
      const CurvePoint& point = run.curve[i];
      if (point.flops <= 0 || point.loss > 2 * y.high()) continue;
      rows.push_back({{"kind", "curve"},
                      {"variant", label(run.variant)},
                      {"x", point.flops},
                      {"y", rounded(point.loss)},
                      {"line", run.id}});
    }
  }
  return rows;
}

/// Per variant the lowest mean loss reached with at most so much compute, over finished runs.
void add_frontier_rows(Json& rows, const Extent& x) {
  std::map<std::string, std::vector<std::pair<double, double>>> points;
  for (const Json& row : rows)
    if (row["kind"] == "mean") points[row["variant"]].emplace_back(row["x"], row["y"]);
  for (auto& [variant, list] : points) {
    std::sort(list.begin(), list.end());
    if (list.size() < 3) continue;
    double best = 1e300;
    for (const auto& [flops, loss] : list) {
      if (loss >= best) continue;
      best = loss;
      rows.push_back({{"kind", "frontier"}, {"variant", variant}, {"x", flops}, {"y", loss}});
    }
    rows.push_back({{"kind", "frontier"}, {"variant", variant}, {"x", x.high()}, {"y", best}});
  }
}

}  // namespace

void add_loss_against_parameters(const Sweep& sweep, Figures& figures) {
  add_loss_against(sweep, {.x = parameters_quantity(), .colour = {}}, "L(N)",
                   {.id = "loss-parameters", .title = "Loss against parameters", .caption = {}, .spec = {}}, figures);
}

void add_loss_against_tokens(const Sweep& sweep, Figures& figures) {
  const std::string title = "Loss against training tokens";
  const auto tokens = distinct(sweep, &Cell::tokens);
  if (tokens.size() == 1) {
    figures.missing.push_back(
        {"loss-tokens", title,
         fmt::format("Every run that finished saw {} training tokens, so the sweep cannot say how "
                     "loss depends on data. Sweep train.steps to learn it; the learning curves "
                     "show the way there.",
                     exact_text(tokens.front()))});
    return;
  }
  add_loss_against(sweep, {.x = tokens_quantity(), .colour = {}}, "L(D)",
                   {.id = "loss-tokens", .title = title, .caption = {}, .spec = {}}, figures);
}

void add_loss_against_flops(const Sweep& sweep, Figures& figures) {
  Figure figure{.id = "loss-flops", .title = "Loss against training compute", .caption = {}, .spec = {}};
  const LossPicture picture{.x = flops_quantity(), .colour = {}};
  Extent x, y;
  Json rows = mean_rows(sweep, picture, x, y);
  if (rows.empty()) {
    figures.missing.push_back({figure.id, figure.title, "No run finished with a loss and a count of FLOPs."});
    return;
  }
  add_frontier_rows(rows, x);
  for (Json& row : thin_curves(sweep, y)) rows.push_back(std::move(row));
  const Json shared = {{"x", {{"field", "x"}, {"type", "quantitative"}}},
                       {"y", {{"field", "y"}, {"type", "quantitative"}}},
                       {"color", variant_colour(sweep)}};
  Json curve = {{"transform", only("curve")},
                {"mark", {{"type", "line"}, {"style", "background-curve"}, {"clip", true}}},
                {"encoding", shared}};
  curve["encoding"]["detail"] = {{"field", "line"}};
  const Json frontier = {{"transform", only("frontier")},
                         {"mark", {{"type", "line"}, {"style", "frontier"}, {"interpolate", "step-after"}}},
                         {"encoding", shared}};
  figure.caption =
      seeds_sentence(sweep) +
      "Faint lines are the validation losses on the way there; dotted steps mark the lowest mean loss that "
      "so much compute has bought. FLOPs are those executed, forward and backward. " +
      truth_sentence(sweep);
  finish(sweep, picture, std::move(rows), x, y, std::move(figure), {curve, frontier}, figures);
}

void add_excess(const Sweep& sweep, Figures& figures) {
  LossPicture picture{.x = parameters_quantity(),
                      .colour = {},
                      .loss_title = "excess over the Bayes loss (nats per token)",
                      .loss = &Cell::excess,
                      .with_truth = false};
  Figure figure{.id = "excess-parameters", .title = "What is left to learn", .caption = {}, .spec = {}};
  Extent x, y;
  Json rows = Json::array();
  size_t not_positive = 0;
  for (const Cell& cell : sweep.cells) {
    if (!cell.excess || !cell.params) continue;
    if (cell.excess->low <= 0) {
      ++not_positive;
      continue;
    }
    rows.push_back(mean_row(cell, *cell.params, *cell.excess));
    x.add(*cell.params);
    y.add(cell.excess->low);
    y.add(cell.excess->high);
  }
  if (rows.empty()) {
    figures.missing.push_back({figure.id, figure.title,
                               not_positive
                                   ? "Every run reached its Bayes loss within the noise of validation."
                                   : "The Bayes loss of this data is not known, so neither is the excess over it."});
    return;
  }
  if (distinct(sweep, &Cell::tokens).size() > 1) picture.colour = tokens_quantity();
  figure.caption =
      seeds_sentence(sweep) +
      "The excess compares model and Bayes-optimal prediction on the same validation tokens; a power law is "
      "a straight line here. ";
  if (picture.colour) figure.caption += fmt::format("Colour shows {}. ", picture.colour->name);
  if (not_positive) {
    figure.caption +=
        fmt::format("{} with an excess of zero or less cannot be drawn on this axis. ", counted(not_positive, "size"));
  }
  finish(sweep, picture, std::move(rows), x, y, std::move(figure), {}, figures);
  // A straight line is the point of this picture: logarithmic however little the excess varies.
  Json& drawn = figures.drawn.back().spec;
  Json& layers = drawn.contains("facet") ? drawn["spec"]["layer"] : drawn["layer"];
  layers.back()["encoding"]["y"]["scale"] = {{"type", "log"}, {"domain", y.log_domain()}, {"nice", false}};
}

}  // namespace attnscale
