#pragma once

#include <vector>

namespace attnscale {

struct Interval {
  double low = 0, high = 0;
  bool contains(double value) const { return low <= value && value <= high; }
};

double mean(const std::vector<double>& values);

/// Standard deviation with n - 1; 0 for fewer than two values.
double standard_deviation(const std::vector<double>& values);

/// Quantile by linear interpolation between order statistics (type 7). @param p in [0, 1]
double quantile(std::vector<double> values, double p);

/// Central interval that holds `level` of the values.
Interval percentile_interval(const std::vector<double>& values, double level);

/// Probability that an F variable exceeds `f`. @param numerator, denominator  degrees of freedom, > 0
double f_upper_tail(double f, double numerator, double denominator);

/// Value that Student's t stays below with probability p > 1/2. @param freedom  degrees, > 0
double student_t_quantile(double p, double freedom);

}  // namespace attnscale
