#include "sweep/spec_groups.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "scratch_folder.h"
#include "sweep/plan.h"
#include "sweep/store.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

const char* const two_groups = R"({
  "base": {"train": {"steps": 30, "eval_every": 10}, "model": {"num_heads": 1}},
  "seeds": 2,
  "groups": {
    "wide": {"grid": {"model.model_dim": [8, 16, 24]}},
    "deep": {"base": {"model": {"model_dim": 16}}, "grid": {"model.depth": [2, 3]}, "seeds": 1}
  }})";

struct Reader {
  ScratchFolder folder;
  Spec read(const std::string& text, const std::vector<std::string>& assignments = {}) const {
    write_file_atomically(folder / "spec.json", text);
    return read_spec(folder / "spec.json", assignments);
  }
};

std::string groups_error(const std::string& text) {
  const Reader reader;
  try {
    make_plan(reader.read(text));
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("spec_groups: the runs are those of each group by itself, and a run that two have is in both and runs once") {
  const Reader reader;
  const auto plan = make_plan(reader.read(two_groups));
  const auto wide =
      make_plan(reader.read(R"({"base": {"train": {"steps": 30, "eval_every": 10}, "model": {"num_heads": 1}},
                                              "seeds": 2, "grid": {"model.model_dim": [8, 16, 24]}})"));
  const auto deep =
      make_plan(reader.read(R"({"base": {"train": {"steps": 30, "eval_every": 10}, "model": {"num_heads": 1,
                                              "model_dim": 16}}, "seeds": 1, "grid": {"model.depth": [2, 3]}})"));
  // Depth 2 is the default, so that width 16, depth 2 and seed 0 are in both.
  REQUIRE(plan.runs.size() == wide.runs.size() + deep.runs.size() - 1);
  for (size_t i = 0; i < wide.runs.size(); ++i) CHECK(plan.runs[i].id == wide.runs[i].id);
  CHECK(plan.runs.back().id == deep.runs.back().id);
  size_t in_both = 0;
  for (const auto& run : plan.runs) {
    if (run.groups.size() == 2) {
      ++in_both;
      CHECK(run.id == deep.runs.front().id);
      CHECK(run.groups == std::vector<std::string>{"wide", "deep"});
    }
  }
  CHECK(in_both == 1);
  CHECK(plan.to_json()["runs"][0]["groups"] == Json{"wide"});
  const auto text = plan_text(plan, 200);
  CHECK_THAT(text, ContainsSubstring("wide, deep"));
  CHECK_THAT(text, ContainsSubstring("model_dim"));
  CHECK_THAT(text, ContainsSubstring("depth"));
}

TEST_CASE("spec_groups: what is kept of the spec says by itself what every group's runs are made of, --set too") {
  const Reader reader;
  const auto spec = reader.read(two_groups, {"model.model_dim=32", "name=kept"});
  CHECK(spec.name == "kept");
  const auto plan = make_plan(spec);
  for (const auto& run : plan.runs) CHECK(run.config().model.model_dim == 32);
  const auto again = make_plan(reader.read(spec.document.value.dump()));
  REQUIRE(again.runs.size() == plan.runs.size());
  for (size_t i = 0; i < plan.runs.size(); ++i) CHECK(again.runs[i].id == plan.runs[i].id);
  CHECK_FALSE(spec.document.value.contains("base"));
}

TEST_CASE("spec_groups: problems of all groups are told together, each once and at its line") {
  const auto error = groups_error(
      "{\"base\": {\"model\": {\n\"detph\": 1}},\n\"groups\": {\"a\": {\n\"grid\": {\"model.num_heads\": []}},\n"
      "\"b\": {\n\"zip\": 3}}}");
  CHECK_THAT(error, ContainsSubstring("spec.json:4:10: grid.model.num_heads: is an empty list"));
  CHECK_THAT(error, ContainsSubstring("spec.json:6:1: zip: received the number 3"));
  const auto unknown = groups_error("{\"base\": {\"model\": {\n\"detph\": 1}},\n\"groups\": {\"a\": {}, \"b\": {}}}");
  CHECK_THAT(unknown, ContainsSubstring("spec.json:2:1: base.model.detph: unknown key; did you mean \"depth\"?"));
}

TEST_CASE("spec_groups: what is no group is refused with its place") {
  CHECK_THAT(groups_error(R"({"groups": {}})"), ContainsSubstring("groups: received an empty object, expected"));
  CHECK_THAT(groups_error(R"({"groups": [1]})"), ContainsSubstring("groups: received a list, expected"));
  CHECK_THAT(groups_error(R"({"groups": {"a": 1}})"), ContainsSubstring("groups.a: received the number 1"));
  CHECK_THAT(groups_error(R"({"groups": {"a b": {}}})"), ContainsSubstring("expected a name of letters"));
  CHECK_THAT(groups_error(R"({"groups": {"a": {"gird": {}}}})"), ContainsSubstring("did you mean \"grid\""));
  CHECK_THAT(groups_error(R"({"groups": {"a": {"claims": []}}})"),
             ContainsSubstring("groups.a.claims: unknown key of a group"));
  CHECK_THAT(groups_error(R"({"groups": {"a": {}}, "clams": []})"), ContainsSubstring("did you mean \"claims\""));
  CHECK_THAT(groups_error(R"({"groups": {"a": {"grid": {"train.steps": {"linear": [1, 1000000], "points": 1000000}}},
                                         "b": {"grid": {"model.depth": [1, 2]}}}})"),
             ContainsSubstring("the axes of the groups a (1e+06) + b (2) multiply to 1e+06 runs, expected at most"));
}

TEST_CASE("spec_groups: a rule for stopping stands beside the groups, and runs compete across them where they agree") {
  const Reader reader;
  const auto plan = make_plan(reader.read(R"({
    "base": {"train": {"steps": 30, "eval_every": 10}},
    "groups": {"low": {"grid": {"train.learning_rate": [0.1, 0.2]}}, "high": {"grid": {"train.learning_rate": [0.4]}}},
    "stopping": {"rule": "asha", "first": 10}})"));
  REQUIRE(plan.runs.size() == 3);
  CHECK(plan.runs[0].competes_in == plan.runs[2].competes_in);
  CHECK(least_work(plan).groups == 1);
}

TEST_CASE("spec_groups: which run is in which group is kept beside the results, and goes with the groups") {
  const Reader reader;
  const auto folder = reader.folder / "out";
  const auto spec = reader.read(two_groups);
  const auto plan = make_plan(spec);
  Store(folder, plan).write_plan(spec, plan);
  const auto groups = read_json(folder / "groups.json").value["groups"];
  CHECK(groups["wide"].size() == 6);
  CHECK(groups["deep"].size() == 2);
  CHECK(groups["wide"][0] == plan.runs[0].id);
  const auto other = reader.read(R"({"base": {"train": {"steps": 30}}})");
  const auto other_plan = make_plan(other);
  Store(folder, other_plan).write_plan(other, other_plan);
  CHECK_FALSE(std::filesystem::exists(folder / "groups.json"));
}
