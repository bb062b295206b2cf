#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Values of a grid axis: a list as it stands, or a range:
///   {"log": [low, high], "points": n}    n values, evenly spaced in the logarithm, ends included
///   {"linear": [low, high], "points": n} n values, evenly spaced, ends included
/// each with an optional "multiple_of": m, which rounds to whole multiples of m (for sizes).
/// @return empty after reporting a problem at `where`
std::vector<Json> expand_values(const Json& values, const std::string& where, std::vector<Problem>& problems);

/// `samples` draws of a random axis: {"log": [low, high]}, {"linear": [low, high]} (both with
/// optional "multiple_of") or {"choice": [...]}. A path's draws depend on `seed` and the path only.
std::vector<Json> draw_values(const Json& range, const std::string& where, uint64_t seed, const std::string& path,
                              int64_t samples, std::vector<Problem>& problems);

}  // namespace attnscale
