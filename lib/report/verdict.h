#pragma once

#include <string>
#include <vector>

#include "report/sweep_data.h"

namespace attnscale {

/// The law to quote for the sweep as a whole: over all runs where there is one, in tokens too where
/// tokens were swept. Null without fits.
const Law* headline_law(const Sweep& sweep);

/// The size with the lowest mean loss; null when nothing finished.
const Cell* best_cell(const Sweep& sweep);

/// What the sweep found, in sentences: how much ran, the best size, how the variants compare and how sure that
/// is, the fitted irreducible loss beside the truth. Plain text, not escaped.
std::vector<std::string> verdict(const Sweep& sweep);

/// `0.7812 (95 % interval 0.7701 to 0.7930)`
std::string irreducible_text(const Law& law);

/// `softmax, depth 4, width 64`
std::string size_text(const Cell& cell);

}  // namespace attnscale
