#include "scaling/power_law.h"

#include <cmath>
#include <map>

namespace attnscale {
namespace {

/// For each variant and each value of `along`, the points whose `other` is the largest.
std::vector<Point> largest_other(const std::vector<Point>& points, double Point::*along, double Point::*other) {
  std::map<std::pair<std::string, double>, double> largest;
  for (const auto& point : points) {
    auto& value = largest[{point.variant, point.*along}];
    value = std::max(value, point.*other);
  }
  std::vector<Point> chosen;
  for (const auto& point : points)
    if (point.*other == largest[{point.variant, point.*along}]) chosen.push_back(point);
  return chosen;
}

}  // namespace

std::vector<PowerSum> power_law_starts(bool floor_is_free) {
  std::vector<double> floors = {-1, -0.5, 0, 0.5, 1};
  if (!floor_is_free) floors = {0};
  std::vector<PowerSum> starts;
  for (const double alpha : {0.0, 0.5, 1.0, 1.5, 2.0})
    for (const double floor : floors)
      for (int a = 0; a <= 25; a += 5)
        starts.push_back(
            {.log_floor = floor, .terms = {{.log_coefficient = static_cast<double>(a), .exponent = alpha}}});
  return starts;
}

PowerLawFit fit_power_law(const std::vector<double>& x, const std::vector<double>& L, const FitOptions& options) {
  PowerSumObjective objective({x}, L, options.delta, options.fixed_E);
  PowerLawFit fit{fit_law(objective, power_law_starts(objective.floor_is_free()), "L(x)")};
  fit.A = std::exp(fit.law.terms[0].log_coefficient);
  fit.alpha = fit.law.terms[0].exponent;
  return fit;
}

std::vector<Point> largest_tokens_of_each_size(const std::vector<Point>& points) {
  return largest_other(points, &Point::N, &Point::D);
}

std::vector<Point> largest_size_of_each_tokens(const std::vector<Point>& points) {
  return largest_other(points, &Point::D, &Point::N);
}

}  // namespace attnscale
