#include "train/schedule.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinRel;

namespace {

double rate_at(int64_t step, const TrainOptions& options) { return learning_rate_at(step, resolved(options)); }

}  // namespace

// One schedule_rounding each in a product, a cosine and a sum.
constexpr double schedule_rounding = 1e-14;

TEST_CASE("schedule: warm-up is linear and ends at the full rate") {
  for (const auto* schedule : {"constant", "linear", "cosine", "inverse_sqrt", "wsd", "step", "schedule_free"}) {
    INFO(schedule);
    const TrainOptions options{.steps = 100, .learning_rate = 0.5, .schedule = schedule, .warmup_steps = 4};
    CHECK(rate_at(1, options) == 0.125);
    CHECK(rate_at(2, options) == 0.25);
    CHECK(rate_at(3, options) == 0.375);
    CHECK(rate_at(4, options) == 0.5);
  }
}

TEST_CASE("schedule: half a cosine falls from the full rate to the final fraction") {
  const TrainOptions options{.steps = 14, .learning_rate = 2, .warmup_steps = 2, .final_learning_rate = 0.25};
  // p = 1/4, 1/3, 1/2, 2/3, 1 of the way: (1 + cos(pi p)) / 2 = (2 + sqrt 2) / 4, 3/4, 1/2, 1/4, 0
  CHECK_THAT(rate_at(5, options), WithinRel(2 * (0.25 + 0.75 * (2 + std::sqrt(2.0)) / 4), schedule_rounding));
  CHECK_THAT(rate_at(6, options), WithinRel(2 * (0.25 + 0.75 * 0.75), schedule_rounding));
  CHECK_THAT(rate_at(8, options), WithinRel(2 * (0.25 + 0.75 * 0.5), schedule_rounding));
  CHECK_THAT(rate_at(10, options), WithinRel(2 * (0.25 + 0.75 * 0.25), schedule_rounding));
  CHECK_THAT(rate_at(14, options), WithinRel(0.5, schedule_rounding));
}

TEST_CASE("schedule: without warm-up the first step is on the cosine, and warm-up may be the whole run") {
  const TrainOptions none{.steps = 2, .learning_rate = 1, .warmup_steps = 0, .final_learning_rate = 0};
  CHECK_THAT(rate_at(1, none), WithinRel(0.5, schedule_rounding));
  const TrainOptions all{.steps = 3, .learning_rate = 1, .warmup_steps = 3};
  CHECK(rate_at(3, all) == 1);
}

TEST_CASE("schedule: left out, the warm-up is a tenth of the run, at most 50 steps, and three tenths of one cycle") {
  CHECK(*resolved({.steps = 1000}).warmup_steps == 50);
  CHECK(*resolved({.steps = 499}).warmup_steps == 49);
  CHECK(*resolved({.steps = 20}).warmup_steps == 2);
  CHECK(*resolved({.steps = 1}).warmup_steps == 0);
  CHECK(*resolved({.steps = 100, .schedule = "one_cycle"}).warmup_steps == 30);
}

TEST_CASE("schedule: a warm-up in tokens takes as many whole steps as hold them") {
  const auto warmup = [](std::optional<int64_t> steps, int64_t tokens) {
    return resolved({.steps = 100, .batch_size = 3, .warmup_steps = steps, .warmup_tokens = tokens, .context = 7});
  };
  // 21 tokens in a step
  CHECK(warmup({}, 0).warmup_steps == 0);
  CHECK(warmup({}, 1).warmup_steps == 1);
  CHECK(warmup({}, 84).warmup_steps == 4);
  CHECK(warmup({}, 85).warmup_steps == 5);
  CHECK_FALSE(warmup({}, 85).warmup_tokens);
  CHECK_FALSE(warmup(5, 85).warmup_tokens);
  CHECK(warmup(4, 85).warmup_tokens == 85);  // which is refused
}

TEST_CASE("schedule: constant stays, and the root of the step falls from the warm-up's end") {
  for (const auto* schedule : {"constant", "schedule_free"})
    CHECK(rate_at(80, {.steps = 100, .learning_rate = 3, .schedule = schedule, .warmup_steps = 4}) == 3);
  const TrainOptions root{.steps = 100, .learning_rate = 3, .schedule = "inverse_sqrt", .warmup_steps = 4};
  CHECK_THAT(rate_at(16, root), WithinRel(1.5, schedule_rounding));
  CHECK_THAT(rate_at(100, root), WithinRel(0.6, schedule_rounding));
  const TrainOptions at_once{.steps = 100, .learning_rate = 3, .schedule = "inverse_sqrt", .warmup_steps = 0};
  CHECK_THAT(rate_at(1, at_once), WithinRel(3.0, schedule_rounding));
  CHECK_THAT(rate_at(9, at_once), WithinRel(1.0, schedule_rounding));
}

TEST_CASE("schedule: a line reaches the final fraction at the last step") {
  const TrainOptions line{
      .steps = 14, .learning_rate = 2, .schedule = "linear", .warmup_steps = 2, .final_learning_rate = 0.25};
  CHECK_THAT(rate_at(5, line), WithinRel(2 * (1 - 0.75 / 4), schedule_rounding));
  CHECK_THAT(rate_at(14, line), WithinRel(0.5, schedule_rounding));
}

TEST_CASE("schedule: wsd is constant until its share of the run, and then falls in a line") {
  const TrainOptions wsd{.steps = 20,
                         .learning_rate = 2,
                         .schedule = "wsd",
                         .warmup_steps = 2,
                         .final_learning_rate = 0.5,
                         .decay_fraction = 0.4};
  for (const int64_t step : {3, 11, 12}) CHECK(rate_at(step, wsd) == 2);
  CHECK_THAT(rate_at(13, wsd), WithinRel(2 * (1 - 0.5 / 8), schedule_rounding));
  CHECK_THAT(rate_at(16, wsd), WithinRel(1.5, schedule_rounding));
  CHECK_THAT(rate_at(20, wsd), WithinRel(1.0, schedule_rounding));
}

TEST_CASE("schedule: steps drop by the factor every so many updates") {
  const TrainOptions drops{
      .steps = 20, .learning_rate = 8, .schedule = "step", .warmup_steps = 2, .decay_every = 5, .decay_factor = 0.5};
  CHECK(rate_at(7, drops) == 8);
  CHECK(rate_at(8, drops) == 4);
  CHECK(rate_at(12, drops) == 4);
  CHECK(rate_at(13, drops) == 2);
  CHECK(*resolved({.steps = 20, .schedule = "step", .warmup_steps = 0}).decay_every == 7);
}

TEST_CASE("schedule: one cycle goes up half a cosine from its initial fraction, and down another") {
  const TrainOptions cycle{.steps = 20,
                           .learning_rate = 2,
                           .schedule = "one_cycle",
                           .warmup_steps = 5,
                           .initial_learning_rate = 0.5,
                           .final_learning_rate = 0.25};
  CHECK_THAT(rate_at(1, cycle), WithinRel(1.0, schedule_rounding));
  CHECK_THAT(rate_at(3, cycle), WithinRel(1.5, schedule_rounding));
  CHECK_THAT(rate_at(5, cycle), WithinRel(2.0, schedule_rounding));
  CHECK_THAT(rate_at(10, cycle), WithinRel(2 * (0.25 + 0.75 * 0.75), schedule_rounding));  // a third of the way down
  CHECK_THAT(rate_at(20, cycle), WithinRel(0.5, schedule_rounding));
  CHECK(rate_at(1, {.steps = 9, .learning_rate = 2, .schedule = "one_cycle", .warmup_steps = 1}) == 2);
}
