#include "bench/crossover.h"

#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

using namespace attnscale;
using Catch::Approx;

namespace {

/// Times of a power law, each repetition off by its own factor.
TimeCurve power_law(double factor, double exponent, const std::vector<double>& noise = {1, 1, 1}) {
  TimeCurve curve{{512, 1024, 2048, 4096}, {}};
  for (const double length : curve.lengths) {
    curve.milliseconds.emplace_back();
    for (const double by : noise) curve.milliseconds.back().push_back(factor * by * std::pow(length, exponent));
  }
  return curve;
}

}  // namespace

TEST_CASE("exponent: of a power law, and of points beside one by least squares") {
  CHECK(*exponent({512, 1024, 4096}, {3, 6, 24}) == Approx(1));
  CHECK(*exponent({512, 1024}, {3, 12}) == Approx(2));
  // log2 of lengths 0, 1, 2 and of values 0, 2, 1: slope (0 x 0 + 1 x 2 + 2 x 1 - 3 x 1 x 1) / (5 - 3) = 1/2.
  CHECK(*exponent({1, 2, 4}, {1, 4, 2}) == Approx(0.5));
  CHECK_FALSE(exponent({512}, {3}));
}

TEST_CASE("crossover: two power laws meet where algebra says, between the lengths measured") {
  // 1500 T = T^2 at T = 1500: on straight lines in log-log, interpolation is exact.
  const auto found = crossover(power_law(1500, 1), power_law(1, 2));
  REQUIRE(found);
  CHECK(found->kind == Crossover::Kind::at);
  CHECK(found->length == Approx(1500));
  CHECK(found->low == Approx(1500));
  CHECK(found->agree == 3);
}

TEST_CASE("crossover: the range over paired repetitions") {
  // A repetition that slows both leaves the crossing where it is; one that slows the curve alone moves it.
  const auto both = crossover(power_law(1500, 1, {1, 3, 2}), power_law(1, 2, {1, 3, 2}));
  CHECK(both->low == Approx(1500));
  CHECK(both->high == Approx(1500));
  const auto alone = crossover(power_law(1500, 1, {1, 1.2, 0.9}), power_law(1, 2));
  CHECK(alone->length == Approx(1500));
  CHECK(alone->low == Approx(1350));
  CHECK(alone->high == Approx(1800));
}

TEST_CASE("crossover: always, never, and what single repetitions say otherwise") {
  CHECK(crossover(power_law(1, 1), power_law(1, 2))->kind == Crossover::Kind::always);
  CHECK(crossover(power_law(1, 2), power_law(1, 1))->kind == Crossover::Kind::never);
  const auto unsure = crossover(power_law(4200, 1, {1, 1, 0.9}), power_law(1, 2));
  CHECK(unsure->kind == Crossover::Kind::never);
  CHECK(unsure->agree == 2);
  CHECK(unsure->repetitions == 3);
}

TEST_CASE("crossover: a curve that falls back behind counts only from where it stays ahead") {
  auto curve = power_law(1, 2);
  curve.milliseconds[0] = {1, 1, 1};        // ahead at 512
  curve.milliseconds[3] = {1e6, 1e6, 1e6};  // and again at 4096, far ahead of 1.7e7
  for (auto& one : curve.milliseconds[1]) one *= 2;
  for (auto& one : curve.milliseconds[2]) one *= 2;
  const auto found = crossover(curve, power_law(1, 2));
  CHECK(found->kind == Crossover::Kind::at);
  CHECK(found->length > 2048);
  CHECK(found->length < 4096);
}

TEST_CASE("crossover: lengths that only one of them has do not count") {
  auto curve = power_law(1500, 1);
  curve.lengths = {512, 1024, 3000, 5000};
  CHECK(crossover(curve, power_law(1, 2))->kind == Crossover::Kind::never);  // of 512 and 1024
  curve.lengths = {500, 1024, 3000, 5000};
  CHECK_FALSE(crossover(curve, power_law(1, 2)));
}

TEST_CASE("growth: the factor per doubling, also over a wider step") {
  CHECK(growth_at_the_end({512, 1024}, {3, 12})->factor == Approx(4));
  CHECK(growth_at_the_end({512, 1024, 4096}, {3, 12, 48})->factor == Approx(2));
  CHECK_FALSE(growth_at_the_end({512}, {3}));
}
