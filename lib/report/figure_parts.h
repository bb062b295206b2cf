#pragma once

#include <string>
#include <vector>

#include "report/figures.h"

namespace attnscale {

/// How an axis writes numbers. With its digits: where they are left to Vega, a step of 1 asks for one of them, and ten
/// becomes 1e+1.
inline constexpr const char* axis_number = ".6~g";

/// A quantity that can be an axis or a colour.
struct Quantity {
  std::optional<double> Cell::*member;
  std::string name;   ///< `parameters`
  std::string title;  ///< with its unit, for the axis
  std::string field;  ///< in the figure's data
};
Quantity parameters_quantity();
Quantity tokens_quantity();
Quantity flops_quantity();

/// An interval of data values, grown by each.
class Extent {
 public:
  void add(double value);
  bool empty() const { return low_ > high_; }
  double low() const { return low_; }
  double high() const { return high_; }

  /// [low, high] with some air, for a logarithmic axis; a single value gets a factor of 2 on both sides.
  Json log_domain() const;

  /// Ticks at 1, 2 and 5 times powers of ten; only the powers when there are many, all digits when few.
  Json log_ticks() const;

  /// A `scale` for losses: linear with some air, logarithmic when they span more than a factor of 5.
  Json loss_scale() const;

 private:
  double low_ = 1e300, high_ = -1e300;
};

/// Values of a quantity that occur in the cells that are done, ascending.
std::vector<double> distinct(const Sweep& sweep, std::optional<double> Cell::*member);

/// Encoding of a logarithmic x axis with prefixes (10k, 2M, 1B).
Json log_x(const Quantity& quantity, const Extent& extent, const std::string& field = "x");
Json loss_y(const std::string& title, const Extent& extent, const std::string& field = "y");

/// Colour by variant in the order of the sweep, the same in every figure.
Json variant_colour(const Sweep& sweep);
Json variant_shape(const Sweep& sweep);
/// Colour along the ramp by a quantity, logarithmic; the legend names up to four values that occur.
Json ramp_colour(const Sweep& sweep, const Quantity& quantity);

/// The scale of colours for ordered values, a shade for each however many there are, legible on light and dark ground.
Json ordered_colours();

/// Tooltip entries of points that stand for a cell, of those fields that every such row has.
Json cell_tooltip(const Json& rows, const std::string& value_title);

/// A row of figure data for a cell: `kind` mean, x, y, low, high and what the tooltip shows.
Json mean_row(const Cell& cell, double x, const Spread& spread);

/// `count` points from low to high, equal in ratio.
std::vector<double> log_spaced(double low, double high, size_t count);

/// A layer of rules from `low` to `high`, over the seeds, of the rows that pass `filter`.
Json seed_bars(const std::string& filter, const Json& x, const Json& colour);

/// The rows of one kind in a layer that shares the figure's data.
Json only(const std::string& kind);

/// A name above the left end of a rule. @param style  its ground first, which parts it from curves, then itself
Json rule_label(const Json& data, const std::string& field, const std::string& text, const std::string& style);

/// The best possible loss as a dashed rule, and its name, which is to lie over the curves; no layer when it is unknown.
std::vector<Json> truth_rule(const Sweep& sweep);
std::vector<Json> truth_label(const Sweep& sweep);

/// A layered picture, by itself or once per variant with shared scales.
Json layered_spec(const std::string& description, Json rows, std::vector<Json> layers, bool by_variant,
                  const Sweep& sweep);

/// Six significant digits: what a picture can show, at half the bytes.
double rounded(double value);

/// Names as figures show them: no control characters, at most 60 characters.
std::string label(const std::string& name);

}  // namespace attnscale
