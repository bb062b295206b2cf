#include "report/figures.h"

namespace attnscale {
namespace {

struct Palette {
  const char *text, *faint, *grid, *truth, *ground;
  Json category, ramp;
};

/// Okabe and Ito's colour-blind safe hues, lightened for a dark ground. The ramp runs from near the
/// ground to far from it, by lightness, so that it reads without colour too.
Palette palette(bool dark) {
  if (dark) {
    return {"#e6e8eb",
            "#9aa3ad",
            "#343b43",
            "#f5f5f5",
            "#1a1f25",
            {"#4ba3e3", "#ff8a4c", "#2fc79a", "#e49ac4", "#f2b93b", "#8fd0f5", "#c9a66b", "#b8bec6"},
            {"#6f5bd0", "#c2559d", "#f07f5a", "#fde37a"}};
  }
  return {"#1f2328",
          "#5b6570",
          "#e4e7eb",
          "#1f2328",
          "#ffffff",
          {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#3f9fd8", "#7a5c3a", "#6b7280"},
          {"#f0a040", "#d9506e", "#8b2a9b", "#241178"}};
}

}  // namespace

Json figure_theme(bool dark) {
  const Palette colours = palette(dark);
  const Json viridis = {"#fde725", "#7ad151", "#22a884", "#2a788e", "#414487", "#440154"};
  return {{"background", nullptr},
          {"font", "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"},
          {"view", {{"stroke", nullptr}}},
          {"padding", 4},
          {"axis",
           {{"labelColor", colours.faint},
            {"titleColor", colours.text},
            {"gridColor", colours.grid},
            {"domainColor", colours.faint},
            {"tickColor", colours.faint},
            {"labelFontSize", 12},
            {"titleFontSize", 13},
            {"titleFontWeight", 500},
            {"titlePadding", 10},
            {"labelPadding", 5},
            {"tickSize", 4}}},
          {"axisX", {{"grid", false}}},
          {"axisY", {{"domain", false}, {"ticks", false}}},
          {"legend",
           {{"orient", "top"},
            {"labelColor", colours.text},
            {"titleColor", colours.text},
            {"labelFontSize", 12},
            {"titleFontSize", 12},
            {"titleFontWeight", 500},
            {"symbolSize", 90},
            {"labelLimit", 260},
            {"titleLimit", 500},
            {"columns", 4},
            {"gradientLength", 180},
            {"gradientThickness", 10},
            {"offset", 12}}},
          {"header",
           {{"labelColor", colours.text},
            {"titleColor", colours.text},
            {"labelFontSize", 13},
            {"labelFontWeight", 600},
            {"labelAnchor", "start"},
            {"labelLimit", 300},
            {"labelPadding", 8}}},
          {"range", {{"category", colours.category}, {"ramp", colours.ramp}, {"heatmap", viridis}}},
          {"text", {{"color", colours.text}}},
          {"style",
           {{"truth", {{"color", colours.truth}, {"strokeWidth", 1.4}, {"strokeDash", {5, 4}}, {"opacity", 0.85}}},
            {"truth-label-ground",
             {{"color", colours.ground},
              {"stroke", colours.ground},
              {"strokeWidth", 4},
              {"strokeJoin", "round"},
              {"opacity", 0.8},
              {"fontSize", 12},
              {"fontStyle", "italic"}}},
            {"truth-label", {{"color", colours.faint}, {"fontSize", 12}, {"fontStyle", "italic"}}},
            {"quiet", {{"color", colours.faint}, {"fontSize", 12}}},
            {"value-on-light", {{"color", "#10151a"}, {"fontSize", 13}}},
            {"value-on-dark", {{"color", "#ffffff"}, {"fontSize", 13}}},
            {"empty-cell", {{"filled", false}, {"color", colours.faint}, {"strokeDash", {3, 3}}, {"opacity", 0.6}}},
            {"curve", {{"strokeWidth", 1.2}, {"opacity", 0.8}}},
            {"background-curve", {{"strokeWidth", 0.8}, {"opacity", 0.28}}},
            {"fit", {{"strokeWidth", 2}, {"opacity", 0.9}}},
            {"frontier", {{"strokeWidth", 1.6}, {"opacity", 0.75}, {"strokeDash", {2, 3}}}},
            {"interval", {{"color", colours.category[0]}}},
            {"estimate", {{"color", colours.category[0]}}},
            {"bar", {{"strokeWidth", 1.6}, {"opacity", 0.85}}}}}};
}

}  // namespace attnscale
