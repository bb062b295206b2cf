#include "scaling/statistics.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinAbs;

TEST_CASE("student_t_quantile: one degree is the Cauchy law, two have a closed form, many are normal") {
  // Cauchy: tan(pi (p - 1/2)); two degrees: (2p - 1) sqrt(2 / (4p (1 - p))).
  CHECK_THAT(student_t_quantile(0.975, 1), WithinAbs(12.706204736432095, 1e-9));
  CHECK_THAT(student_t_quantile(0.975, 2), WithinAbs(4.302652729911275, 1e-9));
  // Tables print 2.3646 for seven degrees.
  CHECK_THAT(student_t_quantile(0.975, 7), WithinAbs(2.3646, 5e-5));
  CHECK_THAT(student_t_quantile(0.975, 1e7), WithinAbs(1.959964, 1e-6));
}

TEST_CASE("f_upper_tail: agrees with the closed form for two numerator degrees") {
  // For numerator 2 and denominator m: (1 + 2 f / m)^(-m / 2).
  CHECK_THAT(f_upper_tail(3.0, 2, 10), WithinAbs(std::pow(1.6, -5.0), 1e-12));
  CHECK_THAT(f_upper_tail(0.2, 2, 4), WithinAbs(std::pow(1.1, -2.0), 1e-12));
  // The square of t with m degrees is F(1, m).
  const double t = student_t_quantile(0.975, 9);
  CHECK_THAT(f_upper_tail(t * t, 1, 9), WithinAbs(0.05, 1e-10));
}

TEST_CASE("binomial_at_most: four trials by hand, and none or all of twenty") {
  // 1, 4, 6, 4, 1 sixteenths.
  CHECK_THAT(binomial_at_most(1, 4, 0.5), WithinAbs(5.0 / 16, 1e-12));
  CHECK_THAT(binomial_at_most(0, 20, 0.05), WithinAbs(std::pow(0.95, 20), 1e-12));
  CHECK_THAT(binomial_at_most(19, 20, 0.95), WithinAbs(1 - std::pow(0.95, 20), 1e-12));
  CHECK(binomial_at_most(20, 20, 0.95) == 1);
  CHECK(binomial_at_most(-1, 20, 0.95) == 0);
}

TEST_CASE("quantile: interpolates between order statistics and ignores the order of the values") {
  CHECK(quantile({4, 1, 3, 2}, 0.5) == 2.5);
  CHECK(quantile({4, 1, 3, 2}, 0) == 1);
  CHECK(quantile({4, 1, 3, 2}, 1) == 4);
  CHECK(quantile({7}, 0.3) == 7);
  CHECK_THAT(quantile({10, 20, 30, 40, 50}, 0.1), WithinAbs(14, 1e-12));
}

TEST_CASE("spread_of: three values by hand, and no jump of the interval between few and many") {
  // Mean 2, deviation 1, t(2) = 4.302653: half width 4.302653 / sqrt 3.
  const Spread spread = spread_of({1, 2, 3});
  CHECK(spread.mean == 2);
  CHECK(spread.deviation == 1);
  CHECK_THAT(spread.half_width, WithinAbs(4.302652729911275 / std::sqrt(3.0), 1e-9));
  CHECK(spread_of({5}).half_width == 0);
  // t(0.975, 31) = 2.0395 as tables print it; a normal quantile from 31 degrees on would be 4 % narrower.
  std::vector<double> values(32);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 2);
  const Spread many = spread_of(values);
  CHECK_THAT(many.half_width / many.deviation * std::sqrt(32.0), WithinAbs(2.0395, 5e-5));
}

TEST_CASE("student_t_two_sided: is 5 % at the quantile of 97.5 %") {
  for (const double freedom : {1.0, 7.0, 40.0})
    CHECK_THAT(student_t_two_sided(-student_t_quantile(0.975, freedom), freedom), WithinAbs(0.05, 1e-10));
}
