#include "train/schedule.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinRel;

// One rounding each in a product, a cosine and a sum.
constexpr double rounding = 1e-14;

TEST_CASE("schedule: warm-up is linear and ends at the full rate") {
  const TrainOptions options{.steps = 100, .learning_rate = 0.5, .warmup_steps = 4};
  CHECK(learning_rate_at(1, options) == 0.125);
  CHECK(learning_rate_at(2, options) == 0.25);
  CHECK(learning_rate_at(3, options) == 0.375);
  CHECK(learning_rate_at(4, options) == 0.5);
}

TEST_CASE("schedule: half a cosine falls from the full rate to the final fraction") {
  const TrainOptions options{.steps = 14, .learning_rate = 2, .final_learning_rate = 0.25, .warmup_steps = 2};
  // p = 1/4, 1/3, 1/2, 2/3, 1 of the way: (1 + cos(pi p)) / 2 = (2 + sqrt 2) / 4, 3/4, 1/2, 1/4, 0
  CHECK_THAT(learning_rate_at(5, options), WithinRel(2 * (0.25 + 0.75 * (2 + std::sqrt(2.0)) / 4), rounding));
  CHECK_THAT(learning_rate_at(6, options), WithinRel(2 * (0.25 + 0.75 * 0.75), rounding));
  CHECK_THAT(learning_rate_at(8, options), WithinRel(2 * (0.25 + 0.75 * 0.5), rounding));
  CHECK_THAT(learning_rate_at(10, options), WithinRel(2 * (0.25 + 0.75 * 0.25), rounding));
  CHECK_THAT(learning_rate_at(14, options), WithinRel(0.5, rounding));
}

TEST_CASE("schedule: without warm-up the first step is on the cosine, and warm-up may be the whole run") {
  const TrainOptions none{.steps = 2, .learning_rate = 1, .final_learning_rate = 0, .warmup_steps = 0};
  CHECK_THAT(learning_rate_at(1, none), WithinRel(0.5, rounding));
  const TrainOptions all{.steps = 3, .learning_rate = 1, .warmup_steps = 3};
  CHECK(learning_rate_at(3, all) == 1);
}
