#include "train/ramp.h"

#include <sstream>

#include <catch2/catch_test_macros.hpp>

#include "core/files.h"
#include "data/registry.h"
#include "scratch_folder.h"
#include "train/run_of.h"
#include "train/trainer.h"

using namespace attnscale;

namespace {

std::vector<int64_t> windows_by_step(const TrainOptions& options) {
  std::vector<int64_t> result;
  for (int64_t step = 1; step <= options.steps; ++step) result.push_back(step_size(options, step).windows);
  return result;
}

std::vector<int64_t> tokens_by_step(const TrainOptions& options) {
  std::vector<int64_t> result;
  for (int64_t step = 1; step <= options.steps; ++step) result.push_back(step_size(options, step).tokens);
  return result;
}

RunConfig ramped_run(const Json& train) {
  auto json = Json::parse(R"({
    "model": {"depth": 1, "model_dim": 16, "num_heads": 2},
    "data": {"source": "zipf_memory", "context": 10, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 8, "batch_size": 6, "eval_every": 3, "eval_tokens": 100, "checkpoint_every": 0}})");
  json["train"].update(train);
  return run_of(json, Json::object());
}

/// Rows of the log: those of steps, and those of evaluations.
std::vector<Json> rows_of(const std::filesystem::path& folder, bool evaluations) {
  std::vector<Json> rows;
  std::istringstream log(read_file(folder / "log.jsonl"));
  for (std::string line; std::getline(log, line);)
    if (auto row = Json::parse(line); row.contains("eval") == evaluations) rows.push_back(row);
  return rows;
}

}  // namespace

TEST_CASE("ramp: sizes by hand, from the first step's to the full one in a quarter or as much as is said") {
  // 4 of 8 steps: 2 + floor((s - 1) 4 / 4) windows, and 4 + floor((s - 1) 6 / 4) tokens, that is 4, 5.5, 7, 8.5
  const TrainOptions both{
      .steps = 8, .batch_size = 6, .initial_batch_size = 2, .initial_context = 4, .ramp_fraction = 0.5, .context = 10};
  CHECK(windows_by_step(both) == std::vector<int64_t>{2, 3, 4, 5, 6, 6, 6, 6});
  CHECK(tokens_by_step(both) == std::vector<int64_t>{4, 5, 7, 8, 10, 10, 10, 10});
  auto in_pairs = both;
  in_pairs.accumulate = 2;
  CHECK(windows_by_step(in_pairs) == std::vector<int64_t>{2, 2, 4, 4, 6, 6, 6, 6});
  auto short_ramp = both;
  short_ramp.ramp_fraction = 0.01;  // a step at least
  CHECK(windows_by_step(short_ramp) == std::vector<int64_t>{2, 6, 6, 6, 6, 6, 6, 6});
  auto default_ramp = both;
  default_ramp.ramp_fraction = TrainOptions{}.ramp_fraction;
  CHECK(tokens_by_step(default_ramp) == std::vector<int64_t>{4, 7, 10, 10, 10, 10, 10, 10});
  CHECK(step_size({.batch_size = 6, .context = 10}, 1) == StepSize{6, 10});
}

TEST_CASE("ramp: stretches hold every step with its size, and warm-ups in tokens count them") {
  for (const int64_t steps : {1, 7, 40, 1000})
    for (const int64_t accumulate : {1, 3})
      for (const double fraction : {0.1, 0.37, 1.0}) {
        const TrainOptions options{.steps = steps,
                                   .batch_size = 21,
                                   .initial_batch_size = 3,
                                   .initial_context = 5,
                                   .ramp_fraction = fraction,
                                   .accumulate = accumulate,
                                   .context = 64};
        CAPTURE(steps, accumulate, fraction);
        int64_t step = 0, tokens = 0;
        for (const auto& stretch : stretches(options, steps)) {
          REQUIRE(stretch.steps > 0);
          for (int64_t i = 0; i < stretch.steps; ++i) {
            const auto size = step_size(options, ++step);
            REQUIRE(size == stretch.size);
            tokens += size.windows * size.tokens;
            REQUIRE(steps_that_hold(options, tokens) == step);
            REQUIRE(steps_that_hold(options, tokens - 1) == step);
            REQUIRE(steps_that_hold(options, tokens + 1) == step + 1);
          }
        }
        CHECK(step == steps);
      }
  // 2 x 4 + 3 x 5 + 4 x 7 = 51 tokens in three steps
  CHECK(resolved({.steps = 8,
                  .batch_size = 6,
                  .initial_batch_size = 2,
                  .initial_context = 4,
                  .ramp_fraction = 0.5,
                  .warmup_tokens = 51,
                  .context = 10})
            .warmup_steps == 3);
}

TEST_CASE("ramp: a run's tokens and FLOPs are the sum over its steps, each by its own size") {
  const ScratchFolder scratch;
  const auto config = ramped_run({{"initial_batch_size", 2}, {"initial_context", 4}, {"ramp_fraction", 0.5}});
  const auto row = train_run(config, {scratch.path, {}, {}});
  REQUIRE(row["status"] == "done");
  // Steps as above: 8, 15, 28, 40, then 60 tokens.
  const auto evaluations = rows_of(scratch.path, true);
  REQUIRE(evaluations.size() == 3);
  CHECK(evaluations[0]["tokens"] == 8 + 15 + 28);
  CHECK(evaluations[1]["tokens"] == 8 + 15 + 28 + 40 + 2 * 60);
  CHECK(row["tokens"] == 8 + 15 + 28 + 40 + 4 * 60);
  CHECK(row["curve"]["tokens"].back() == row["tokens"]);
  // All but attention costs the same per token; its masked square of scores and of weighted values costs a token
  // 3 x 2 x 2 x 16 FLOPs for each of the window's keys.
  const double apart = cost_of(config).flops_per_token.executed - 192 * 10;
  const double keys = 8 * 4 + 15 * 5 + 28 * 7 + 40 * 8 + 4 * 60 * 10, tokens = row["tokens"].get<double>();
  CHECK(row["flops"] == apart * tokens + 192 * keys);
  CHECK(row["flops_ledger"]["executed"] == row["flops"]);
  CHECK(row["flops_ledger"]["six_n"] == 6 * row["parameters"]["non_embedding"].get<double>() * tokens);
}

TEST_CASE("ramp: a step's windows are the first of a whole step's, their tokens the first of each") {
  const auto whole = ramped_run(Json::object());
  const auto ramped = ramped_run({{"initial_batch_size", 2}, {"initial_context", 4}, {"ramp_fraction", 0.5}});
  const auto source = whole.open_source();
  for (const int64_t step : {1, 3, 8}) {
    const auto size = step_size(ramped.train, step);
    const auto all = step_data(*source, whole, step), first = step_data(*source, ramped, step);
    REQUIRE(first.questions.inputs.sizes() == at::IntArrayRef({size.windows, size.tokens}));
    const auto cut = [&](const Tensor& x) { return x.narrow(0, 0, size.windows).narrow(1, 0, size.tokens); };
    CHECK(at::equal(first.questions.inputs, cut(all.questions.inputs)));
    CHECK(at::equal(first.questions.targets, cut(all.questions.targets)));
  }
}

TEST_CASE("ramp: a window that would lose what is asked for is not cut") {
  const auto told = [](const Json& model, const Json& data, const std::string& words) {
    auto own = data;
    own["context"] = 20;
    std::vector<Problem> problems;
    RunConfig::from_json({{"model", model}, {"data", own}, {"train", {{"initial_context", 8}}}}, problems);
    return problems.size() == 1 && problems[0].path == "train.initial_context" &&
           problems[0].message.find(words) != std::string::npos;
  };
  const Json memory = {{"source", "zipf_memory"}};
  CHECK(told({{"head", "masked_token"}}, memory, "cannot be cut for model.head \"masked_token\""));
  CHECK(told(Json::object(), {{"source", "copy"}}, "copy asks for tokens at places of its own"));
  std::vector<Problem> problems;
  RunConfig::from_json({{"data", {{"source", "zipf_memory"}, {"context", 8}}}, {"train", {{"initial_context", 8}}}},
                       problems);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].message.find("expected less than data.context 8") != std::string::npos);
}
