#include "scaling/vertex.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace attnscale {
namespace {

using CurvePoint = std::pair<double, double>;

/// Of the parabola through three points, of which the middle one is the least.
CurvePoint parabola_vertex(CurvePoint left, CurvePoint least, CurvePoint right) {
  const double a = left.first - least.first, b = right.first - least.first;
  const double u = left.second - least.second, v = right.second - least.second;
  const double curvature = (u / a - v / b) / (a - b), slope = u / a - curvature * a;
  if (!(curvature > 0)) return least;  // three equal values
  const double shift = -slope / (2 * curvature);
  return {least.first + shift, least.second + shift * (slope + curvature * shift)};
}

}  // namespace

std::optional<Vertex> vertex_of_curve(const std::vector<std::pair<double, double>>& curve) {
  const auto least =
      std::min_element(curve.begin(), curve.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (least == curve.end() || !std::isfinite(least->second)) return std::nullopt;
  Vertex vertex{.at = least->first, .least = least->second};
  if (least == curve.begin()) vertex.edge = -1;
  else if (least == curve.end() - 1) vertex.edge = 1;
  else if (std::isfinite((least - 1)->second) && std::isfinite((least + 1)->second)) {
    std::tie(vertex.at, vertex.least) = parabola_vertex(*(least - 1), *least, *(least + 1));
    vertex.between = true;
  }
  return vertex;
}

}  // namespace attnscale
