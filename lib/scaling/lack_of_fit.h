#pragma once

#include <optional>
#include <vector>

#include "scaling/power_sum.h"

namespace attnscale {

/// Whether a law misses cells by more than their seeds scatter.
struct LackOfFit {
  double F = 0;
  double fit_freedom = 0, seed_freedom = 0;  ///< degrees of freedom: cells - parameters, points - cells
  double p = 1;                              ///< probability of an F at least as large under a law that is right
  double seed_noise = 0;                     ///< standard deviation of ln L within cells
};

/// The F test of pure error against misfit, of the least-squares law in ln L.
///
/// Source: Draper and Smith 1998, Applied Regression Analysis, section 2.1. The law is fitted anew by least squares,
/// starting from `start`: the residuals of a robust fit are larger than those of least squares, and would reject laws
/// that are right.
/// @param x, losses  the points: columns [K][P], nats per token [P]
/// @param group      number of each point's cell, all of one x [P]
/// @return nothing where cells are not more than parameters, or no cell has seeds that differ
std::optional<LackOfFit> lack_of_fit(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                                     const std::vector<int>& group, std::optional<double> fixed_E,
                                     const PowerSum& start);

}  // namespace attnscale
