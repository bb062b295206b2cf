#pragma once

#include <string>
#include <vector>

#include "report/sweep_data.h"

namespace attnscale {

/// A picture as a Vega-Lite 5 specification that carries its own data.
struct Figure {
  std::string id;  ///< file name without `.svg`, and anchor in the page
  std::string title;
  std::string caption;  ///< what is drawn, with units, and how to read it
  Json spec;
};

/// What a figure would have shown and why it is not there.
struct MissingFigure {
  std::string id, title, reason;
};

struct Figures {
  std::vector<Figure> drawn;
  std::vector<MissingFigure> missing;
};

/// Every picture that the sweep's files can support, in the order of the report.
Figures make_figures(const Sweep& sweep);

/// One function a picture; each adds to `figures` what it draws, or why it does not.
void add_loss_against_parameters(const Sweep& sweep, Figures& figures);
void add_loss_against_flops(const Sweep& sweep, Figures& figures);
void add_loss_against_tokens(const Sweep& sweep, Figures& figures);
void add_excess(const Sweep& sweep, Figures& figures);
void add_irreducible_loss(const Sweep& sweep, Figures& figures);
void add_learning_curves(const Sweep& sweep, Figures& figures);
void add_depth_width(const Sweep& sweep, Figures& figures);
void add_accuracy_against_state(const Sweep& sweep, Figures& figures);
void add_variants(const Sweep& sweep, Figures& figures);
void add_loss_by_position(const Sweep& sweep, Figures& figures);
void add_watch(const Sweep& sweep, Figures& figures);

/// Vega-Lite `config`: fonts, colours and line styles for a light or a dark ground. The figures name
/// styles, never colours, so one spec serves both and the SVG files.
Json figure_theme(bool dark);

}  // namespace attnscale
