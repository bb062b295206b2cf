#include "sweep/include.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "core/hash.h"
#include "scratch_folder.h"
#include "sweep/plan.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Files {
  ScratchFolder folder;
  void write(const std::string& name, const std::string& text) const {
    make_folder((folder / name).parent_path());
    write_file_atomically(folder / name, text);
  }
  Spec read(const std::vector<std::string>& assignments = {}) const {
    return read_spec(folder / "spec.json", assignments);
  }
  std::string error() const {
    try {
      make_plan(read());
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "no error";
  }
};

}  // namespace

TEST_CASE(
    "include: what is said here counts, what is left out comes from beneath, and one beneath may include others") {
  const Files files;
  files.write("spec.json", R"({"include": "shared/tuned.json", "base": {"model": {"depth": 3}}, "seeds": 2})");
  files.write("shared/tuned.json", R"({"include": "../root.json", "base": {"model": {"depth": 2, "num_heads": 2}},
                                       "grid": {"train.learning_rate": [1, 2]}})");
  files.write("root.json", R"({"name": "root", "base": {"model": {"num_heads": 1, "model_dim": 8}}, "seeds": 5})");
  const auto spec = files.read();
  CHECK(spec.base["model"] == Json{{"num_heads", 2}, {"model_dim", 8}, {"depth", 3}});
  CHECK(spec.num_runs() == 4);
  CHECK(spec.name != "root");  // a name is a file's own, so that two that include one have two folders
  CHECK_FALSE(spec.document.value.contains("include"));
  REQUIRE(spec.included.size() == 2);
  CHECK(spec.included[0].sha256 == sha256_of_file(files.folder / "root.json"));
  CHECK(spec.included[1].sha256 == sha256_of_file(files.folder / "shared" / "tuned.json"));
  const auto plan = make_plan(spec).to_json();
  CHECK(plan["included"][1]["sha256"] == spec.included[1].sha256);
  // What is kept of the spec needs no other file, and gives the same runs.
  files.write("kept.json", spec.document.value.dump());
  const auto again = make_plan(read_spec(files.folder / "kept.json", {}));
  CHECK(again.runs.size() == 4);
  CHECK(again.runs[3].id == plan["runs"][3]["id"]);
}

TEST_CASE("include: of several the later ones lie higher, and --set lies above all") {
  const Files files;
  files.write("spec.json", R"({"include": ["a.json", "b.json"]})");
  files.write("a.json", R"({"base": {"model": {"depth": 2, "model_dim": 8}, "train": {"steps": 7}}})");
  files.write("b.json", R"({"base": {"model": {"depth": 3, "model_dim": 16}}})");
  const auto spec = files.read({"model.model_dim=32"});
  CHECK(spec.base["model"] == Json{{"depth", 3}, {"model_dim", 32}});
  CHECK(spec.base["train"]["steps"] == 7);
}

TEST_CASE("include: another variant or source replaces the one beneath with its options") {
  const Files files;
  files.write("spec.json", R"({"include": "a.json", "base": {"attention": {"variant": "softmax"}}})");
  files.write("a.json", R"({"base": {"attention": {"variant": "sliding_window", "window": 8}}})");
  CHECK(files.read().base["attention"] == Json{{"variant", "softmax"}});
  files.write("spec.json", R"({"include": "a.json", "base": {"attention": {"window": 4}}})");
  CHECK(files.read().base["attention"] == Json{{"variant", "sliding_window"}, {"window", 4}});
}

TEST_CASE("include: an axis keeps its place and takes the values from above") {
  const Files files;
  files.write("spec.json", R"({"include": "a.json", "grid": {"train.steps": [5], "model.depth": [4]}})");
  files.write("a.json", R"({"grid": {"model.depth": [1, 2], "model.model_dim": [8, 16]}})");
  const auto spec = files.read();
  REQUIRE(spec.axes.size() == 3);
  CHECK(spec.axes[0].paths[0] == "model.depth");
  CHECK(spec.axes[0].points.size() == 1);
  CHECK(spec.axes[2].paths[0] == "train.steps");
}

TEST_CASE("include: a problem is told at the file and line that it comes from") {
  const Files files;
  files.write("spec.json", "{\"include\": \"a.json\",\n\"base\": {\"train\": {\"steps\": -1}}}");
  files.write("a.json", "{\"base\": {\n\"model\": {\n  \"detph\": 2}}}");
  const auto error = files.error();
  CHECK_THAT(error, ContainsSubstring("a.json:3:3: base.model.detph"));
  CHECK_THAT(error, ContainsSubstring("spec.json:2:20: base.train.steps"));
}

TEST_CASE("include: missing files, circles and what is no path are refused with the line of the include") {
  const Files files;
  files.write("spec.json", "{\n  \"include\": [\"a.json\",\n \"nowhere.json\"]}");
  files.write("a.json", "{}");
  CHECK_THAT(files.error(), ContainsSubstring("spec.json:3:2: include[1]: nowhere.json: no such file"));
  files.write("spec.json", R"({"include": "a.json"})");
  files.write("a.json", "{\n\"include\": \"b/c.json\"}");
  files.write("b/c.json", "{\"include\": \"../spec.json\"}");
  CHECK_THAT(files.error(),
             ContainsSubstring("c.json:1:2: include: ../spec.json includes itself: spec.json -> a.json -> "
                               "c.json -> spec.json"));
  files.write("spec.json", R"({"include": "spec.json"})");
  CHECK_THAT(files.error(), ContainsSubstring("spec.json includes itself: spec.json -> spec.json"));
  for (const auto* wrong : {"3", "{}", "\"\"", "[1]"}) {
    files.write("spec.json", std::string("{\"include\": ") + wrong + "}");
    CHECK_THAT(files.error(), ContainsSubstring("expected the path of a spec"));
  }
  files.write("spec.json", R"({"include": "a.json"})");
  files.write("a.json", "[1]");
  CHECK_THAT(files.error(), ContainsSubstring("a.json:1:1: (top level): received a list"));
  files.write("a.json", "{\"base\": }");
  CHECK_THAT(files.error(), ContainsSubstring("a.json:1:"));
}

TEST_CASE("include: one file by two ways is no circle") {
  const Files files;
  files.write("spec.json", R"({"include": ["a.json", "b.json"]})");
  files.write("a.json", R"({"include": "c.json"})");
  files.write("b.json", R"({"include": "c.json"})");
  files.write("c.json", R"({"base": {"model": {"depth": 5}}})");
  CHECK(files.read().base["model"]["depth"] == 5);
  CHECK(files.read().included.size() == 3);
}
