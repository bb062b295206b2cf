#include "scaling/law_intervals.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinAbs;

namespace {

/// The exponent of L = x^-slope.
PowerSum line(double slope) { return {.log_floor = 0, .terms = {{0, slope}}}; }

}  // namespace

TEST_CASE("law intervals: least squares and the robust fit agree, or both have their say") {
  // Profile t of the slope through ln L = 0, -1, -1, -2: .6 -+ .608 (profile_test).
  std::vector<double> x, losses;
  for (const double log_loss : {0.0, -1.0, -1.0, -2.0}) {
    x.push_back(std::exp(static_cast<double>(x.size())));
    losses.push_back(std::exp(log_loss));
  }
  const LawProfile profile({x}, losses, {0, 1, 2, 3}, 0.0, line(0.5));
  const double half = 4.302652729911275 * std::sqrt(0.1 / 5);
  Bootstrap resampled;
  for (int i = 0; i <= 1000; ++i) resampled.laws.push_back(line(1.0 + 1e-3 * i));  // 95 %: 1.025 to 1.975
  const LawIntervals intervals(resampled, &profile);
  const auto exponent = law_quantities({"alpha"}).back();

  const auto agreed = intervals.of(exponent, 0.7);
  REQUIRE(agreed);
  CHECK_THAT(agreed->low, WithinAbs(0.6 - half, 1e-8));
  CHECK_THAT(agreed->high, WithinAbs(0.6 + half, 1e-8));

  const auto apart = intervals.of(exponent, 1.5);  // the robust fit's, beyond the profile's end
  REQUIRE(apart);
  CHECK_THAT(apart->low, WithinAbs(0.6 - half, 1e-8));
  CHECK_THAT(apart->high, WithinAbs(1.975, 2e-3));

  resampled.laws.clear();  // no bootstrap: the estimate itself is held
  const auto without = intervals.of(exponent, 1.5);
  REQUIRE(without);
  CHECK(without->high == 1.5);
}
