#include "report/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace attnscale {

double student_quantile(size_t degrees_of_freedom) {
  static constexpr std::array table = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                       2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                                       2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
  if (degrees_of_freedom == 0) return 0;
  return degrees_of_freedom <= table.size() ? table[degrees_of_freedom - 1] : 1.96;
}

Spread spread_of(const std::vector<double>& values) {
  Spread spread;
  spread.count = values.size();
  const auto count = static_cast<double>(values.size());
  spread.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  spread.low = *low;
  spread.high = *high;
  if (values.size() < 2) return spread;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.deviation = std::sqrt(squares / (count - 1));
  spread.half_width = student_quantile(values.size() - 1) * spread.deviation / std::sqrt(count);
  return spread;
}

}  // namespace attnscale
