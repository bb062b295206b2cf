#include "scaling/statistics.h"

#include <algorithm>
#include <cmath>

namespace attnscale {
namespace {

/// Regularised incomplete beta function by its continued fraction (Abramowitz and Stegun 26.5.8),
/// evaluated with Lentz's method; accurate to about 1e-14 where x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double tiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::abs(d) < tiny ? tiny : d);
  double value = d;
  for (int m = 1; m < 1000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double factor = 1;
    for (const double numerator : {even, odd}) {
      d = 1 + numerator * d;
      d = 1 / (std::abs(d) < tiny ? tiny : d);
      c = 1 + numerator / c;
      if (std::abs(c) < tiny) c = tiny;
      factor = d * c;
      value *= factor;
    }
    if (std::abs(factor - 1) < 1e-15) break;
  }
  return value;
}

double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

}  // namespace

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double standard_deviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double centre = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

Spread spread_of(const std::vector<double>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  Spread spread{.count = values.size(), .mean = mean(values), .low = *low, .high = *high};
  if (spread.count < 2) return spread;
  const auto count = static_cast<double>(spread.count);
  spread.deviation = standard_deviation(values);
  spread.half_width = student_t_quantile(0.975, count - 1) * spread.deviation / std::sqrt(count);
  return spread;
}

double quantile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  const double place = p * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  if (below + 1 >= values.size()) return values.back();
  return values[below] + (place - static_cast<double>(below)) * (values[below + 1] - values[below]);
}

Interval percentile_interval(const std::vector<double>& values, double level) {
  return {quantile(values, (1 - level) / 2), quantile(values, (1 + level) / 2)};
}

double f_upper_tail(double f, double numerator, double denominator) {
  return incomplete_beta(denominator / 2, numerator / 2, denominator / (denominator + numerator * f));
}

double binomial_at_most(int count, int trials, double p) {
  if (count < 0) return 0;
  return count >= trials ? 1 : incomplete_beta(trials - count, count + 1, 1 - p);
}

double student_t_two_sided(double t, double freedom) {
  return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t));
}

double student_t_quantile(double p, double freedom) {
  // P(|t| > x) = I_{v / (v + x^2)}(v / 2, 1 / 2), which falls in x: halve an interval that holds it.
  const double tail = 2 * (1 - p);
  double low = 0, high = 1;
  const auto beyond = [&](double x) { return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + x * x)); };
  while (beyond(high) > tail && high < 1e12) high *= 2;
  for (int i = 0; i < 200 && high - low > 1e-13 * high; ++i) {
    const double middle = 0.5 * (low + high);
    (beyond(middle) > tail ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

}  // namespace attnscale
