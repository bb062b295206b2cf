// Loss along the context: what a variant makes of the positions before.

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "report/figure_parts.h"

namespace attnscale {
namespace {

/// A bin of positions, over the runs of one cell.
struct PositionBin {
  double last = 0;
  std::vector<double> losses;
  std::optional<double> bayes_loss;
};
using Bins = std::map<double, PositionBin>;  // by first position

Bins bins_of(const Sweep& sweep, const std::string& cell_key) {
  Bins bins;
  for (size_t i = 0; i < sweep.runs.size(); ++i) {
    if (sweep.runs[i].cell != cell_key || !sweep.runs[i].sound()) continue;
    // Columns, one value for each bin.
    const Json& columns = at_path(sweep.rows[i], "positions");
    const Json &first = at_path(columns, "first"), &last = at_path(columns, "last"), &loss = at_path(columns, "loss");
    const Json& bayes_loss = at_path(columns, "bayes_loss");
    for (size_t b = 0; b < std::min({first.size(), last.size(), loss.size()}); ++b) {
      if (!first[b].is_number() || !last[b].is_number() || !loss[b].is_number()) continue;
      auto& bin = bins[first[b].get<double>()];
      bin.last = last[b].get<double>();
      bin.losses.push_back(loss[b].get<double>());
      if (b < bayes_loss.size() && bayes_loss[b].is_number()) bin.bayes_loss = bayes_loss[b].get<double>();
    }
  }
  return bins;
}

/// The size of each variant that ends lowest.
std::map<std::string, const Cell*> best_by_variant(const Sweep& sweep) {
  std::map<std::string, const Cell*> best;
  for (const Cell& cell : sweep.cells) {
    if (!cell.loss) continue;
    const Cell*& so_far = best[cell.variant];
    if (!so_far || cell.loss->mean < so_far->loss->mean) so_far = &cell;
  }
  return best;
}

constexpr size_t most_coloured = 8;  // as many hues as the palette has

}  // namespace

void add_loss_by_position(const Sweep& sweep, Figures& figures) {
  Figure figure{.id = "loss-by-position", .title = "Loss along the context", .caption = {}, .spec = {}};
  Json rows = Json::array();
  Extent x, y;
  bool with_truth = false, several_seeds = false;
  for (const auto& [variant, cell] : best_by_variant(sweep)) {
    for (const auto& [first, bin] : bins_of(sweep, cell->key)) {
      const double middle = std::sqrt(first * bin.last);
      const auto spread = spread_of(bin.losses);
      Json row = {{"kind", "mean"},
                  {"variant", label(variant)},
                  {"x", rounded(middle)},
                  {"first", first},
                  {"last", bin.last},
                  {"y", rounded(spread.mean)},
                  {"low", rounded(spread.low)},
                  {"high", rounded(spread.high)}};
      several_seeds |= spread.count > 1;
      x.add(middle);
      for (const double loss : {spread.low, spread.high}) y.add(loss);
      rows.push_back(row);
      if (!bin.bayes_loss) continue;
      with_truth = true;
      row["kind"] = "bayes";
      row["y"] = rounded(*bin.bayes_loss);
      y.add(*bin.bayes_loss);
      rows.push_back(std::move(row));
    }
  }
  if (x.empty() || x.low() == x.high()) {
    figures.missing.push_back({figure.id, figure.title, "No run recorded its loss by position."});
    return;
  }
  const bool panels = sweep.variants.size() > most_coloured;
  const Json x_axis = {{"field", "x"},
                       {"type", "quantitative"},
                       {"scale", {{"type", "log"}, {"base", 2}, {"domain", x.log_domain()}, {"nice", false}}},
                       {"axis", {{"title", "position in the window"}, {"format", axis_number}, {"tickCount", 6}}}};
  const Json y_axis = loss_y(panels ? "nats per token" : "validation loss (nats per token)", y);
  Json colour = variant_colour(sweep);
  if (panels) colour["legend"] = nullptr;
  const Json tooltip = {{{"field", "variant"}, {"title", "attention"}},
                        {{"field", "first"}, {"title", "from position"}},
                        {{"field", "last"}, {"title", "to position"}},
                        {{"field", "y"}, {"title", "loss"}, {"format", ".4f"}}};
  std::vector<Json> layers;
  if (with_truth)
    layers.push_back({{"transform", only("bayes")},
                      {"mark", {{"type", "line"}, {"style", "truth"}}},
                      {"encoding", {{"x", x_axis}, {"y", y_axis}, {"detail", {{"field", "variant"}}}}}});
  if (several_seeds) layers.push_back(seed_bars("datum.kind === 'mean'", x_axis, colour));
  Json mark = {{"type", "line"}, {"style", "curve"}, {"point", {{"filled", true}, {"size", 28}}}};
  layers.push_back({{"transform", only("mean")},
                    {"mark", std::move(mark)},
                    {"encoding", {{"x", x_axis}, {"y", y_axis}, {"color", colour}, {"tooltip", tooltip}}}});
  figure.caption =
      "Validation loss by the position of the target, in bins, for the size of each variant that "
      "ends lowest";
  figure.caption += several_seeds ? " (bars: lowest to highest seed). " : ". ";
  figure.caption += with_truth ? "The dashed line is the Bayes loss: what the context until there tells at best."
                               : "It falls as far as the variant uses the context.";
  figure.spec = layered_spec(figure.title + ". " + figure.caption, std::move(rows), std::move(layers), panels, sweep);
  if (panels) {
    figure.spec["columns"] = 4;
    figure.spec["spacing"] = 16;
    figure.spec["spec"].update({{"width", 140}, {"height", 110}});
  }
  figures.drawn.push_back(std::move(figure));
}

}  // namespace attnscale
