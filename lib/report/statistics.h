#pragma once

#include <cstddef>
#include <vector>

namespace attnscale {

/// What a handful of equal trainings, different only in seed, say about a number.
struct Spread {
  std::size_t count = 0;
  double mean = 0, low = 0, high = 0;
  double deviation = 0;   ///< sample standard deviation; 0 for one value
  double half_width = 0;  ///< of the 95 % Student interval of the mean; 0 for one value

  double interval_low() const { return mean - half_width; }
  double interval_high() const { return mean + half_width; }
};

/// @param values  at least one
Spread spread_of(const std::vector<double>& values);

/// 97.5 % point of Student's t, to three digits; 1.96 beyond the table of 30 degrees of freedom.
double student_quantile(std::size_t degrees_of_freedom);

}  // namespace attnscale
