#pragma once

#include <cstddef>
#include <vector>

namespace attnscale {

struct Interval {
  double low = 0, high = 0;
  bool contains(double value) const { return low <= value && value <= high; }
};

double mean(const std::vector<double>& values);

/// Standard deviation with n - 1; 0 for fewer than two values.
double standard_deviation(const std::vector<double>& values);

/// What a handful of equal trainings, different only in seed, say about a number.
struct Spread {
  size_t count = 0;
  double mean = 0, low = 0, high = 0;
  double deviation = 0;   ///< sample standard deviation; 0 for one value
  double half_width = 0;  ///< of the 95 % Student interval of the mean; 0 for one value
};

/// @param values  at least one
Spread spread_of(const std::vector<double>& values);

/// Quantile by linear interpolation between order statistics (type 7). @param p in [0, 1]
double quantile(std::vector<double> values, double p);

/// Central interval that holds `level` of the values.
Interval percentile_interval(const std::vector<double>& values, double level);

/// Probability that an F variable exceeds `f`. @param numerator, denominator  degrees of freedom, > 0
double f_upper_tail(double f, double numerator, double denominator);

/// Probability of at most `count` successes in `trials`, each with probability p. @param p  in (0, 1)
double binomial_at_most(int count, int trials, double p);

/// Probability that a Student's t variable lies further from 0 than `t`. @param freedom  degrees, > 0
double student_t_two_sided(double t, double freedom);

/// Value that Student's t stays below with probability p > 1/2. @param freedom  degrees, > 0
double student_t_quantile(double p, double freedom);

}  // namespace attnscale
