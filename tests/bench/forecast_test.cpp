#include "bench/forecast.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinRel;

namespace {

Plan plan_of(const std::string& more) {
  return make_plan(spec_of(parse_json(R"({"base": {"model": {"depth": 1, "model_dim": 8, "num_heads": 1},
    "data": {"source": "zipf_memory", "num_keys": 32, "num_labels": 4, "context": 16},
    "train": {"steps": 100, "batch_size": 4, "warmup_steps": 5, "eval_every": 50, "eval_tokens": 96,
              "checkpoint_every": 50}})" + more +
                                          "}",
                                      "spec"),
                           {}));
}

/// Every step of these takes so long, whatever its FLOPs.
MeasuredSteps always(const Plan& plan, double seconds) {
  MeasuredSteps steps;
  for (const auto& run : plan.runs) steps.kinds[kind_of(run)] = {1, 1e18, seconds, seconds, true};
  return steps;
}

}  // namespace

TEST_CASE("forecast: workers take the plan's runs as they become free, and steps, evaluations and starts add up") {
  const auto plan = plan_of(R"(, "grid": {"train.steps": [100, 100, 300]}, "seeds": 1)");
  REQUIRE(plan.runs.size() == 2);  // equal configs once
  // An evaluation of 96 tokens is half a step of 64: 2 * 96 / 64 / 3 = 1 step in 100, 3 in 300.
  CHECK_THAT(steps_with_evaluations(plan.runs[0]), WithinRel(101.0, 1e-12));
  CHECK_THAT(steps_with_evaluations(plan.runs[1]), WithinRel(303.0, 1e-12));
  // What saving takes without the disk's time is far below a millisecond here.
  CHECK_THAT(forecast_of(plan, 1, always(plan, 2), {}).seconds, WithinRel(808.0, 1e-4));
  CHECK_THAT(forecast_of(plan, 2, always(plan, 2), {}).seconds, WithinRel(606.0, 1e-4));
  const double started = forecast_of(plan, 2, always(plan, 2), {.start_seconds = 10}).seconds;
  CHECK_THAT(started, WithinRel(676.0, 1e-4));
  // Two checkpoints of 12 syncs and 18 around them; the other run has six.
  CHECK_THAT(forecast_of(plan, 1, always(plan, 2), {.start_seconds = 0, .sync_seconds = 1}).seconds,
             WithinRel(808.0 + 2 * 18 + (2 + 6) * 12, 1e-4));
}

TEST_CASE("forecast: variants and dtypes are kinds of their own, sizes and seeds are not") {
  const auto plan = plan_of(R"(, "seeds": 2, "grid": {"model.depth": [1, 2], "train.dtype": ["float32", "bfloat16"],
    "attention": [{"variant": "softmax"}, {"variant": "linear"}]})");
  std::map<std::string, int> kinds;
  for (const auto& run : plan.runs) ++kinds[kind_of(run)];
  REQUIRE(kinds.size() == 4);
  for (const auto& [name, count] : kinds) CHECK(count == 4);

  const auto groups =
      plan_of(R"(, "seeds": 2, "groups": {"a": {}, "b": {"base": {"attention": {"variant": "linear"}}}})");
  REQUIRE(groups.runs.size() == 4);
  CHECK(kind_of(groups.runs.front()) != kind_of(groups.runs.back()));

  auto steps = always(plan, 1);
  for (auto& [name, costs] : steps.kinds) {
    const bool slow = name.find("linear") != std::string::npos;
    costs.low_seconds = costs.high_seconds = slow ? 3 : 1;
  }
  for (const auto& run : plan.runs)
    CHECK_THAT(steps.seconds(run),
               WithinRel(run.config().to_json()["attention"]["variant"] == "linear" ? 3.0 : 1.0, 1e-12));
  // One that was not measured is taken for the average of the others.
  steps.kinds.erase(kind_of(plan.runs[0]));
  double sum = 0;
  for (const auto& [name, costs] : steps.kinds) sum += costs.low_seconds;
  CHECK_THAT(steps.seconds(plan.runs[0]), WithinRel(sum / 3, 1e-12));
}

TEST_CASE("forecast: the interval grows where others work on the machine, and where less was measured") {
  const auto plan = plan_of("");
  auto steps = always(plan, 1);
  const auto factor = [&] {
    const auto result = forecast_of(plan, 1, steps, {});
    CHECK_THAT(result.high / result.seconds, WithinRel(result.seconds / result.low, 1e-12));
    return result.high / result.seconds;
  };
  CHECK_THAT(factor(), WithinRel(1.35, 1e-12));
  steps.contention = 4;
  CHECK_THAT(factor(), WithinRel(1.35 * std::pow(4, 0.7), 1e-12));
  steps.contention = 1;
  steps.all_kinds = false;
  CHECK_THAT(factor(), WithinRel(2.0, 1e-12));
  steps.kinds.begin()->second.whole_steps = false;
  CHECK_THAT(factor(), WithinRel(3.0, 1e-12));
}

TEST_CASE("forecast: a run that saves no checkpoints on its way takes no time for them") {
  const auto with = plan_of(R"(, "grid": {"train.steps": [1000]})");
  const auto without = plan_of(R"(, "grid": {"train.steps": [1000], "train.checkpoint_every": [0]})");
  const FixedCosts slow_disk{.sync_seconds = 1};
  const double saved = forecast_of(with, 1, always(with, 0.01), slow_disk).seconds,
               unsaved = forecast_of(without, 1, always(without, 0.01), slow_disk).seconds;
  REQUIRE(std::isfinite(unsaved));
  CHECK_THAT(saved - unsaved, WithinRel(20 * 12.0, 1e-3));  // 20 checkpoints of 12 syncs
}

TEST_CASE(
    "forecast: every kind is measured, its dearest run no quicker than its cheapest, and the folder stays clean") {
  const auto plan =
      plan_of(R"(, "grid": {"model.depth": [1, 3], "attention": [{"variant": "softmax"}, {"variant": "linear"}]})");
  const auto steps = measure_steps(plan, 2);
  REQUIRE(steps.kinds.size() == 2);
  CHECK(steps.all_kinds);
  CHECK(steps.whole_steps());
  CHECK(steps.contention >= 1);
  for (const auto& [name, costs] : steps.kinds) {
    CHECK(costs.low_seconds > 0);
    CHECK(costs.low_flops < costs.high_flops);
    CHECK(costs.low_seconds <= costs.high_seconds);
  }
  const auto folder = std::filesystem::temp_directory_path();
  const auto entries = [&] {
    size_t hidden = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      hidden += entry.path().filename().string().starts_with(".attnscale-");
    return hidden;
  };
  const auto before = entries();
  const auto fixed = measure_fixed_costs(folder / "not" / "there" / "yet");
  CHECK(fixed.sync_seconds > 0);
  CHECK(fixed.start_seconds > 0);
  CHECK(entries() == before);
}
