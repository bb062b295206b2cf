#include "sweep/plan.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "model/small_model.h"
#include "scratch_folder.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

Plan plan_of(const std::string& text) {
  const ScratchFolder folder;
  write_file_atomically(folder / "spec.json", text);
  return make_plan(read_spec(folder / "spec.json", {}));
}

std::string plan_error(const std::string& text) {
  try {
    plan_of(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("plan: every run has an id of its own, in the order of the axes") {
  const auto plan = plan_of(R"({"grid": {"model.depth": [1, 2]}, "seeds": 2})");
  REQUIRE(plan.runs.size() == 4);
  CHECK(plan.runs[0].config().model.depth == 1);
  CHECK(plan.runs[1].config().model.depth == 1);
  CHECK(plan.runs[1].config().train.seed == 1);
  CHECK(plan.runs[3].config().model.depth == 2);
  for (size_t i = 0; i < 4; ++i)
    for (size_t j = 0; j < i; ++j) CHECK(plan.runs[i].id != plan.runs[j].id);
}

TEST_CASE("plan: each point is what its values give by themselves, whichever axis moved") {
  const auto plan = plan_of(R"({
    "base": {"model": {"num_heads": 2, "ffn_dim": "= 3 * model_dim"}, "train": {"steps": "= 10 * depth", "seed": 9}},
    "grid": {"train.learning_rate": ["= 0.1 / model_dim", 0.01], "model.depth": [1, 2], "model.model_dim": [16, 32],
             "attention": [{"variant": "sliding_window", "window": "= depth + 1"}, "= none"]},
    "seeds": [3, 1, 2]})");
  REQUIRE(plan.runs.size() == 48);
  size_t i = 0;
  for (const bool derived_rate : {true, false})
    for (const int depth : {1, 2})
      for (const int dim : {16, 32})
        for (const bool windowed : {true, false})
          for (const int seed : {3, 1, 2}) {
            Json config = {
                {"model", {{"num_heads", 2}, {"ffn_dim", 3 * dim}, {"depth", depth}, {"model_dim", dim}}},
                {"train", {{"steps", 10 * depth}, {"seed", seed}, {"learning_rate", derived_rate ? 0.1 / dim : 0.01}}}};
            if (windowed) config["attention"] = {{"variant", "sliding_window"}, {"window", depth + 1}};
            std::vector<Problem> problems;
            const auto alone = RunConfig::from_json(config, problems);
            REQUIRE(problems.empty());
            const auto& run = plan.runs[i++];
            CHECK(run.config().to_json() == alone.to_json());
            CHECK(run.id == alone.id());
            CHECK(run.settings["train.seed"] == seed);
            CHECK(run.settings["train.learning_rate"] == alone.train.learning_rate);
            CHECK(run.tokens() == static_cast<double>(alone.train.steps * alone.train.batch_size * alone.data.context));
          }
}

TEST_CASE("plan: what is derived from the seed is derived for each") {
  const auto plan = plan_of(R"({"base": {"train": {"steps": "= 10 + seed"}}, "seeds": 3})");
  REQUIRE(plan.runs.size() == 3);
  for (int seed = 0; seed < 3; ++seed) CHECK(plan.runs[static_cast<size_t>(seed)].train.steps == 10 + seed);
  const auto rates = plan_of(R"({"grid": {"train.learning_rate": ["= 0.01 / 2 ** train.seed"]}, "seeds": [1, 3]})");
  CHECK(rates.runs[0].train.learning_rate == 0.005);
  CHECK(rates.runs[1].train.learning_rate == 0.00125);
}

TEST_CASE("plan: what is excluded may depend on the seed, on the training and on the shape") {
  const auto plan = plan_of(R"({"grid": {"model.depth": [1, 2], "train.learning_rate": [0.1, 0.2]}, "seeds": 2,
    "exclude": ["seed == 1 and depth == 2", "train.learning_rate > 0.15 and model.depth < 2"]})");
  CHECK(plan.excluded == 4);
  REQUIRE(plan.runs.size() == 4);
  for (const auto& run : plan.runs) {
    CHECK_FALSE((run.train.seed == 1 && run.model().depth == 2));
    CHECK_FALSE((run.train.learning_rate > 0.15 && run.model().depth < 2));
  }
}

TEST_CASE("plan: a default written out is the same run as the default left out") {
  const auto short_form = plan_of("{}"),
             long_form = plan_of(R"({"base": {"model": {"depth": 2}, "attention": {"variant": "softmax"}}})");
  CHECK(short_form.runs[0].id == long_form.runs[0].id);
}

TEST_CASE("plan: points with equal configs run once, and the plan says so") {
  const auto plan = plan_of(R"({"grid": {"model.depth": [2, 2, 3]}})");
  CHECK(plan.runs.size() == 2);
  CHECK(plan.repeated == 1);
}

TEST_CASE("plan: a problem is told where the axis sets the value, once for all runs that share it") {
  const auto error = plan_error(
      "{\n\"grid\": {\n\"model.depth\": [1, 0],\n\"attention\": [\n{\"variant\": \"softmax\"},\n"
      "{\"variant\": \"sliding_window\",\n\"windw\": 3}]},\n\"seeds\": 3}");
  CHECK_THAT(error, ContainsSubstring("spec.json:3:20: grid.model.depth[1]: received the number 0"));
  CHECK_THAT(error,
             ContainsSubstring(
                 "spec.json:7:1: grid.attention[1].windw: unknown key for sliding_window; did you mean \"window\"?"));
  CHECK(std::count(error.begin(), error.end(), '\n') == 1);
}

TEST_CASE("plan: heads that do not divide are refused while planning, with numbers") {
  const auto error = plan_error(R"({"base": {"model": {"model_dim": 30, "num_heads": 4}}})");
  CHECK_THAT(error, ContainsSubstring("30") && ContainsSubstring("4") && ContainsSubstring("model.num_heads"));
}

TEST_CASE("plan: a grid of 10^12 points is refused with the count, before anything is expanded") {
  std::string hundred = "[1";
  for (int i = 2; i <= 100; ++i) hundred += "," + std::to_string(i);
  hundred += "]";
  std::string text = "{\"grid\": {";
  for (const auto* path :
       {"model.depth", "model.model_dim", "model.num_heads", "train.steps", "train.batch_size", "data.context"})
    text += std::string(text.back() == '{' ? "" : ",") + "\"" + path + "\": " + hundred;
  CHECK_THAT(plan_error(text + "}}"), ContainsSubstring("1e+12 runs"));
}

TEST_CASE("plan: its sums are those of its runs") {
  const auto plan =
      plan_of(R"({"base": {"train": {"steps": 10, "batch_size": 4, "warmup_steps": 1}, "data": {"context": 32}}})");
  const auto& run = plan.runs[0];
  CHECK(run.tokens() == 10 * 4 * 32);
  CHECK(run.training_flops() == run.tokens() * run.cost.flops_per_token.executed);
  // 2, 2, 3, 3 windows, then 4
  const auto ramp = plan_of(R"({"base": {"train": {"steps": 10, "batch_size": 4, "warmup_steps": 1,
    "initial_batch_size": 2, "ramp_fraction": 0.4}, "data": {"context": 32}}})");
  const auto& ramped = ramp.runs[0];
  CHECK(ramped.tokens() == (2 + 2 + 3 + 3 + 6 * 4) * 32);
  CHECK(ramped.training_flops() == ramped.tokens() * run.cost.flops_per_token.executed);
  const auto json = plan.to_json();
  CHECK(json["num_runs"] == 1);
  CHECK(json["runs"][0]["id"] == run.id);
  CHECK_THAT(plan_text(plan, 100), ContainsSubstring("1 runs, 1.28k tokens"));
}

TEST_CASE("plan: runs side by side must fit together, the largest first") {
  const auto plan = plan_of(R"({"grid": {"model.model_dim": [32, 64, 128]}})");
  const double small = plan.runs[0].peak_bytes, middle = plan.runs[1].peak_bytes, large = plan.runs[2].peak_bytes;
  CHECK(memory_side_by_side(plan, 2) == large + middle);
  CHECK(memory_side_by_side(plan, 9) == large + middle + small);
  CHECK(jobs_that_fit(plan, 3, large + middle + small) == 3);
  CHECK(jobs_that_fit(plan, 3, large + middle) == 2);
  CHECK(jobs_that_fit(plan, 3, large + small) == 1);  // the two largest may meet
  CHECK(jobs_that_fit(plan, 3, 0) == 1);
}

TEST_CASE("plan: a wrong value in the base is told although an axis replaces it") {
  const auto error = plan_error(R"({"base": {"model": {"depth": null}}, "grid": {"model.depth": [1, 2]}})");
  CHECK_THAT(error, ContainsSubstring("base.model.depth: received null"));
  // What only some combination makes wrong is not: 4 heads do not fit a width of 30, those of the axis do.
  const auto plan =
      plan_of(R"({"base": {"model": {"model_dim": 30, "num_heads": 4}}, "grid": {"model.num_heads": [3, 5]}})");
  CHECK(plan.runs.size() == 2);
}

TEST_CASE("plan: runs are matched to the parameters of a reference by the number that is solved for") {
  const auto plan = plan_of(R"({
    "base": {"model": {"depth": 2, "num_heads": 2, "ffn_dim": 100}},
    "grid": {"model.model_dim": [32, 48], "attention.variant": ["softmax", "memory_compressed", "linear"]},
    "match": {"quantity": "parameters", "as": {"attention": {"variant": "softmax"}}, "by": "model.ffn_dim"}})");
  REQUIRE(plan.runs.size() == 6);
  for (const auto& run : plan.runs) {
    INFO(run.settings.dump());
    const auto& reference = plan.runs[run.config().model.model_dim == 32 ? 0 : 3];
    const double per_unit = 2 * (2 * run.config().model.model_dim + 1);  // parameters that one more of ffn_dim brings
    REQUIRE(run.matched);
    CHECK(run.matched->target == reference.cost.parameters.total);
    CHECK(run.matched->reached == run.cost.parameters.total);
    CHECK(std::abs(run.matched->reached - run.matched->target) <= per_unit / 2);
    CHECK(run.settings["model.ffn_dim"] == *run.config().model.ffn_dim);
    // softmax is the reference itself, linear adds no parameters, memory_compressed pays for its convolutions
    if (run.config().attention.variant == "memory_compressed") CHECK(*run.config().model.ffn_dim < 100);
    else CHECK(*run.config().model.ffn_dim == 100);
  }
}

TEST_CASE("plan: matching by FLOPs and by state") {
  const auto flops = plan_of(R"({
    "base": {"model": {"num_heads": 2}, "data": {"context": 128}, "attention": {"variant": "sliding_window", "window": 8}},
    "match": {"quantity": "flops", "as": {"attention": {"variant": "softmax"}}, "by": "model.ffn_dim"}})");
  CHECK(*flops.runs[0].config().model.ffn_dim > 256);  // what the window saves
  CHECK(std::abs(flops.runs[0].matched->residual()) < 0.005);
  // D = 16: linear keeps D (D + 1) = 272 numbers a head, a window 2 D = 32 for each of its positions. 8.5 is as far
  // from 8 as from 9, and the smaller is taken.
  const auto state = plan_of(R"({
    "base": {"model": {"num_heads": 4}, "attention": {"variant": "sliding_window"}},
    "match": {"quantity": "state_bytes", "as": {"attention": {"variant": "linear"}}, "by": "attention.window", "tolerance": 0.1}})");
  CHECK(state.runs[0].config().attention.options["window"] == 8);
}

TEST_CASE("plan: the reference stays as it is among those that are matched to it by an option of their own") {
  const auto plan = plan_of(R"({
    "base": {"model": {"num_heads": 4}, "data": {"context": 64}},
    "grid": {"attention": [{"variant": "linear"}, {"variant": "sliding_window"}]}, "seeds": 2,
    "match": {"quantity": "state_bytes", "as": {"attention": {"variant": "linear"}}, "by": "attention.window", "tolerance": 0.1}})");
  REQUIRE(plan.runs.size() == 4);
  CHECK_FALSE(plan.runs[0].settings.contains("attention.window"));
  CHECK(plan.runs[0].matched->residual() == 0);
  for (const size_t i : {2, 3}) CHECK(plan.runs[i].settings["attention.window"] == 8);
  CHECK_THAT(plan_error(R"({"grid": {"attention": [{"variant": "sliding_window", "window": 16}]},
    "match": {"quantity": "state_bytes", "as": {"attention": {"variant": "linear"}}, "by": "attention.window"}})"),
             ContainsSubstring("attention.window is solved for, but grid.attention sets it"));
}

TEST_CASE("plan: matching by state is refused for a variant that keeps none, as the run or as its reference") {
  const WithGatedSum scratch({Trait::causal});
  const auto error = [](const std::string& variant, const std::string& reference) {
    return plan_error(R"({"base": {"attention": {"variant": ")" + variant + R"("}}, "match": {"quantity": "state_bytes",
      "as": {"attention": {"variant": ")" +
                      reference + R"("}}}})");
  };
  CHECK_THAT(error("gated_sum", "linear"), ContainsSubstring("match: gated_sum keeps no decode state"));
  CHECK_THAT(error("linear", "gated_sum"),
             ContainsSubstring("match.as: ") && ContainsSubstring("gated_sum keeps no decode state"));
}

TEST_CASE("plan: says which paths matching moved, the one solved for and the defaults that follow it") {
  const auto plan = plan_of(R"({
    "base": {"model": {"num_heads": 2}},
    "grid": {"attention.variant": ["softmax", "memory_compressed"]},
    "match": {"as": {"model.model_dim": 64, "attention": {"variant": "softmax"}}, "by": "model.model_dim", "multiple_of": 4,
              "tolerance": 0.1}})");
  const auto runs = plan.to_json()["runs"];
  REQUIRE(runs.size() == 2);
  for (const auto& run : runs) CHECK(run["matched"]["by"] == "model.model_dim");
  CHECK(runs[0]["matched"]["moved"] == Json({"model.model_dim"}));  // the reference's size already
  CHECK(runs[1]["matched"]["moved"] == Json({"model.model_dim", "model.embedding_dim", "model.ffn_dim"}));
  CHECK(runs[0]["config"]["model"]["model_dim"] != runs[1]["config"]["model"]["model_dim"]);
}

TEST_CASE("plan: what cannot be matched is refused at its place") {
  const auto with = [](const std::string& match) {
    return plan_error("{\"base\": {\"attention\": {\"variant\": \"sliding_window\", \"window\": 4}},\n\"match\": {" +
                      match + "}}");
  };
  CHECK_THAT(with(R"("by": "model.ffn_dim")"), ContainsSubstring("spec.json:2:1: match: \"as\" is missing or empty"));
  CHECK_THAT(with(R"("as": {"modl.depth": 1})"), ContainsSubstring("match.as.modl.depth: unknown path"));
  CHECK_THAT(with(R"("as": {"attention": {"variant": "sofmax"}})"),
             ContainsSubstring("match.as: with it the reference's attention.variant"));
  CHECK_THAT(
      plan_error(
          R"({"grid": {"model.model_dim": [64]}, "seeds": 2, "match": {"as": {"model.depth": 1, "model.ffn_dim": 1}}})"),
      ContainsSubstring("match: for the run with {\"model.model_dim\":64}: the nearest parameters"));
  CHECK_THAT(with(R"("as": {"model.depth": 4}, "quantity": "bytes")"), ContainsSubstring("match.quantity"));
  CHECK_THAT(with(R"("as": {"model.depth": 4}, "by": "train.steps")"), ContainsSubstring("match.by"));
  CHECK_THAT(with(R"("as": {"attention": {"variant": "softmax"}}, "quantity": "state_bytes")"),
             ContainsSubstring("does it depend on it?"));
  CHECK_THAT(with(R"("as": {"model.model_dim": 8}, "by": "model.ffn_dim")"),
             ContainsSubstring("the nearest parameters"));
  CHECK_THAT(with(R"("as": {"model.depth": 4}, "by": "model.model_dim")"), ContainsSubstring("cannot be"));
  CHECK_THAT(plan_error(R"({"grid": {"model.ffn_dim": [1, 2]}, "match": {"as": {"model.depth": 4}}})"),
             ContainsSubstring("model.ffn_dim is solved for, but grid.model.ffn_dim sets it"));
}
