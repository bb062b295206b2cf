#include "scaling/simulation.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "scaling/statistics.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

TEST_CASE("simulate: without noise every point is the law's, bent where asked, and seeds draw different noise") {
  auto source = simulated_sources().front();
  source.noise = 0;
  for (const auto& point : simulate(source, 1))
    CHECK_THAT(point.L, WithinRel(source.law.at({point.N, point.D}), 1e-12));
  // Zipf memory at the smallest size and shortest training: 1.728 + .6 + .6; coupled: .6 (1 + 1)^.6 above E.
  CHECK_THAT(simulate(source, 1).front().L, WithinAbs(2.928, 1e-12));
  CHECK_THAT(simulate(source, 1, Bend::coupling).front().L, WithinAbs(1.728 + 0.6 * std::pow(2, 0.6), 1e-12));
  // Threshold at the fourth size, 27 times the first: the term there is .6 / 27^.5, and below it the exponent .25.
  CHECK_THAT(simulate(source, 1, Bend::threshold).front().L,
             WithinAbs(1.728 + 0.6 * std::pow(27, -0.5) * std::pow(27, 0.25) + 0.6, 1e-12));
}

TEST_CASE("simulate: the noise of ln L has the standard deviation that was asked for, and the same seed repeats it") {
  auto source = simulated_sources().front();
  source.seeds = 100;  // 3,000 points: their standard deviation is known to 1.3 %
  std::vector<double> noise;
  for (const auto& point : simulate(source, 7)) noise.push_back(std::log(point.L / source.law.at({point.N, point.D})));
  CHECK_THAT(standard_deviation(noise), WithinRel(source.noise, 0.05));
  CHECK_THAT(mean(noise), WithinAbs(0, 4 * source.noise / std::sqrt(3000)));
  CHECK(simulate(source, 7)[5].L == simulate(source, 7)[5].L);
  CHECK(simulate(source, 7)[5].L != simulate(source, 8)[5].L);
}
