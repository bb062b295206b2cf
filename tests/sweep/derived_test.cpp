#include "sweep/derived.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "scratch_folder.h"
#include "sweep/plan.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

Plan plan_with(const std::string& text) {
  const ScratchFolder folder;
  write_file_atomically(folder / "spec.json", text);
  return make_plan(read_spec(folder / "spec.json", {}));
}

}  // namespace

TEST_CASE("derived: a value follows the axes, other derived values and defaults") {
  const auto plan = plan_with(R"json({
    "base": {"model": {"num_heads": 2, "ffn_dim": "= 3 * model_dim // 2"},
             "data": {"context": "= 4 * model.num_heads"},
             "train": {"steps": "= round_to(2000 / depth, 10)", "warmup_steps": "= steps // 10"}},
    "grid": {"model.model_dim": [16, 32], "model.depth": [1, 3]}})json");
  REQUIRE(plan.runs.size() == 4);
  for (const auto& run : plan.runs) {
    const auto config = run.config();
    CHECK(config.model.ffn_dim == config.model.model_dim * 3 / 2);
    CHECK(config.data.context == 8);
    CHECK(config.train.steps == (config.model.depth == 1 ? 2000 : 670));  // 666.7
    CHECK(config.train.warmup_steps == config.train.steps / 10);
  }
  const auto plain = plan_with(R"({"base": {"model": {"model_dim": 16, "num_heads": 2, "ffn_dim": 24, "depth": 1},
    "data": {"context": 8}, "train": {"steps": 2000, "warmup_steps": 200}}})");
  CHECK(plain.runs[0].id == plan.runs[0].id);  // what was derived is the same run as what was written out
}

TEST_CASE("derived: an axis may hold one, and the plan shows what it came to") {
  const auto plan = plan_with(R"({"grid": {"model.ffn_dim": ["= 2 * model_dim", "= 4 * model_dim", 100]}})");
  REQUIRE(plan.runs.size() == 3);
  const auto dim = plan.runs[0].config().model.model_dim;
  CHECK(plan.runs[0].settings["model.ffn_dim"] == 2 * dim);
  CHECK(plan.runs[1].settings["model.ffn_dim"] == 4 * dim);
}

TEST_CASE("derived: conditionals choose by other values, by the variant too") {
  const auto plan = plan_with(R"({
    "base": {"train": {"learning_rate": "= 0.001 if attention.variant == 'softmax' else 0.002"}},
    "grid": {"attention": [{"variant": "softmax"}, {"variant": "sliding_window", "window": "= context // 8"}]}})");
  CHECK(plan.runs[0].config().train.learning_rate == 0.001);
  CHECK(plan.runs[1].config().train.learning_rate == 0.002);
  CHECK(plan.runs[1].config().to_json()["attention"]["window"] == 8);
}

TEST_CASE("derived: none leaves an option out, one with a default too") {
  const auto plan = plan_with(R"({
    "zip": {"model.norm": ["rms_norm", "none"], "model.norm_placement": ["after", "= none"],
            "model.ffn_dim": [24, "= none"]}})");
  REQUIRE(plan.runs.size() == 2);
  CHECK(plan.runs[0].config().to_json()["model"]["norm_placement"] == "after");
  CHECK_FALSE(plan.runs[1].config().to_json()["model"].contains("norm_placement"));
  CHECK(plan.runs[1].config().model.ffn_dim == 256);
}

TEST_CASE("derived: mistakes are told at the place of the value, once") {
  const auto refused = [](const std::string& text, const std::string& message) {
    CHECK_THROWS_WITH(plan_with(text), ContainsSubstring(message));
  };
  refused(R"({"base": {"model": {"ffn_dim": "= 4 * model_dm"}}})",
          "spec.json:1:21: base.model.ffn_dim: unknown name model_dm; did you mean \"model_dim\"?");
  refused(R"({"base": {"model": {"ffn_dim": "= 4 *"}}})", "base.model.ffn_dim: \" 4 *\": column 5: received the end");
  refused(R"({"base": {"model": {"ffn_dim": "= 4.5 * 3"}}})",
          "base.model.ffn_dim: received the number 13.5, expected a whole number");
  refused(R"({"base": {"model": {"ffn_dim": "= model_dim", "model_dim": "= ffn_dim"}}})", "is derived from itself");
  refused(R"({"base": {"model": {"depth": "= num_kv_heads"}}})", "model.num_kv_heads is not set");
  refused(R"({"grid": {"model.depth": [1, "= 'a' + 1"]}})", "grid.model.depth[1]");
}

TEST_CASE("exclude: runs for which a condition holds are left out and counted") {
  const auto plan = plan_with(R"({
    "grid": {"model.depth": [1, 2, 4], "attention": [{"variant": "softmax"}, {"variant": "sliding_window", "window": 8}]},
    "exclude": ["depth == 4 and variant == 'softmax'", "window == 8 and model.depth < 2"]})");
  CHECK(plan.runs.size() == 4);
  CHECK(plan.excluded == 2);
  for (const auto& run : plan.runs) {
    const bool softmax = run.config().attention.variant == "softmax";
    CHECK(run.config().model.depth != (softmax ? 4 : 1));
  }
}

TEST_CASE("exclude: a condition that cannot be used is told at its place") {
  const auto refused = [](const std::string& exclude, const std::string& message) {
    CHECK_THROWS_WITH(plan_with(R"({"grid": {"model.depth": [1, 2]}, "exclude": )" + exclude + "}"),
                      ContainsSubstring(message));
  };
  refused(R"("dpth > 1")", "exclude: no run has an option dpth; did you mean \"depth\"?");
  refused(R"(["depth > 1", "depth ="])", "spec.json:1:60: exclude[1]: \"depth =\": column 7");
  refused("3", "exclude: received the number 3, expected a condition");
  refused(R"("depth")", "expected a condition, such as depth > 2");
  refused(R"("depth > 0")", "exclude: leaves out all 2 runs");
}
