#pragma once

#include <optional>
#include <utility>
#include <vector>

namespace attnscale {

/// Where a curve is least.
struct Vertex {
  double at = 0;         ///< x; of a curve over octaves, log2 of the value
  double least = 0;      ///< y there
  int edge = 0;          ///< -1: the first point is the least; 1: the last
  bool between = false;  ///< found by a parabola, not only known to be the least of the points
};

/// A parabola through the least point and its two neighbours (Hoffmann et al. 2022, arXiv:2203.15556, section 3.2,
/// along sizes). At an end, and where a neighbour is not finite, it is the least point itself.
/// @param curve  x, in rising order, and y @return nothing if the least y is not finite, or there is none
std::optional<Vertex> vertex_of_curve(const std::vector<std::pair<double, double>>& curve);

}  // namespace attnscale
