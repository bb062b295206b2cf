#pragma once

#include <string>
#include <vector>

#include "scaling/flags.h"
#include "scaling/table.h"

namespace attnscale {

/// How many values differ by more than 1 %: sizes closer than that say the same about an exponent.
int distinct_values(std::vector<double> values);

/// Largest over smallest.
double span(const std::vector<double>& values);

/// Number of each point's distinct (N, D), where a value of 0 means that it is not looked at. [P]
std::vector<int> design_cells(const std::vector<double>& N, const std::vector<double>& D);

/// Whether a law can be told from these points, in words.
struct Identifiability {
  std::string refusal;  ///< why it cannot be fitted, and what to run next; empty if it can
  Flags flags;          ///< what to mistrust although it can
};

/// For L(N, D): three sizes and three token counts, more cells than parameters, N and D not in step.
Identifiability identify_parametric(const std::vector<double>& N, const std::vector<double>& D, bool floor_is_free);

/// For one variable x: three values (two with E fixed). @param symbol  "N" or "D"
Identifiability identify_power_law(const std::vector<double>& x, bool floor_is_free, const std::string& symbol);

}  // namespace attnscale
