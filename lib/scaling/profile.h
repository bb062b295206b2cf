#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/power_sum.h"

namespace attnscale {

/// Profile intervals of E and the exponents at 95 %: the values at which the best law with that value held still fits
/// the groups' mean ln L so well that F(1, G - parameters) does not reject it.
///
/// Source: Bates and Watts 1988, Nonlinear Regression Analysis, section 6.1 (profile t). They need no resampling and
/// are as skew as the law; they take what a group misses the law by for normal, where the bootstrap takes the residuals
/// as they are, and least squares instead of Huber's loss. For groups of one x each.
/// @param x         columns of the points [K][P]
/// @param losses    nats per token [P]
/// @param group     number of each point's independent group [P]
/// @param start     a law near the optimum
/// @param names     of E and the exponents [1 + K]; an E that is fixed has no interval
/// @return {NAME: [low, high]}; an E without a lower end begins at 0, and any other open end leaves the name out. Empty
///         where groups are not more than parameters.
Json profile_intervals(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                       const std::vector<int>& group, std::optional<double> fixed_E, const PowerSum& start,
                       const std::vector<std::string>& names);

}  // namespace attnscale
