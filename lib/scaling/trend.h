#pragma once

#include <string>
#include <vector>

namespace attnscale {

/// Whether the loss falls with each variable at all, before a law of falling losses is believed.
struct Trend {
  bool falls = true;    ///< by more than the points scatter about a straight line
  std::string reason;   ///< why not, in words that tell what to do; empty when it falls
  std::string warning;  ///< it falls, but not all the way: in words; else empty
};

/// Judges by the least-squares plane of ln L over the logarithms of all variables: a slope that is not negative by two
/// standard errors is no fall.
/// @param x        one column per variable, positive [K][P]
/// @param losses   nats per token [P]
/// @param symbols  names of the variables [K]
/// @return one per variable [K]
std::vector<Trend> loss_trends(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                               const std::vector<std::string>& symbols);

}  // namespace attnscale
