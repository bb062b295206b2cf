#include "sweep/spec.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <fmt/format.h>

#include "core/files.h"
#include "scratch_folder.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

Spec read(const std::string& text, const std::vector<std::string>& assignments = {}) {
  const ScratchFolder folder;
  write_file_atomically(folder / "spec.json", text);
  return read_spec(folder / "spec.json", assignments);
}

std::string spec_error(const std::string& text, const std::vector<std::string>& assignments = {}) {
  try {
    read(text, assignments);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("spec: grid axes multiply in the order written, seeds innermost") {
  const auto spec = read(R"({"name": "x", "grid": {"model.depth": [1, 2], "train.steps": [10, 20, 30]}, "seeds": 2})");
  REQUIRE(spec.axes.size() == 3);
  CHECK(spec.num_runs() == 12);
  CHECK(spec.axes[0].paths == std::vector<std::string>{"model.depth"});
  CHECK(spec.axes[0].where[1][0] == "grid.model.depth[1]");
  CHECK(spec.axes[2].label == "seeds");
  CHECK(spec.axes[2].points[1][0] == 1);
}

TEST_CASE("spec: zipped lists are one axis, and must be equally long") {
  const auto spec = read(R"({"zip": {"model.model_dim": [32, 64], "model.num_heads": [2, 4]}})");
  REQUIRE(spec.axes.size() == 1);
  CHECK(spec.axes[0].points[1] == std::vector<Json>{64, 4});
  CHECK(read(R"({"zip": [{"model.depth": [1, 2]}, {"train.steps": [1, 2]}]})").num_runs() == 4);
  CHECK_THAT(spec_error(R"({"zip": {"model.model_dim": [32, 64], "model.num_heads": [2]}})"),
             ContainsSubstring("equally long") && ContainsSubstring("has 1 values"));
}

TEST_CASE("spec: ranges whose numbers a double or a whole number cannot hold are refused") {
  const auto grid = [](const char* range) {
    return fmt::format(R"({{"grid": {{"train.learning_rate": {}}}}})", range);
  };
  CHECK_THAT(spec_error(grid(R"({"linear": [-1e308, 1e308], "points": 3})")), ContainsSubstring("too far apart"));
  CHECK_THAT(spec_error(grid(R"({"log": [1e-300, 1e300], "points": 3})")), ContainsSubstring("too far apart"));
  CHECK_THAT(spec_error(grid(R"({"log": [1, 1e300], "points": 3, "multiple_of": 8})")), ContainsSubstring("2^52"));
  CHECK(read(grid(R"({"log": [1, 4503599627370496], "points": 3, "multiple_of": 8})")).axes[0].points.size() == 3);
}

TEST_CASE("spec: matching by a path with any characters is told apart from what axes set") {
  const auto match = [](const char* by) {
    return fmt::format(
        R"({{"grid": {{"model": [{{"a": {{"b": 1}}}}]}}, "match": {{"by": "{}", "as": {{"model.x": 1}}}}}})", by);
  };
  CHECK_THAT(spec_error(match("model.a.b")), ContainsSubstring("model.a.b is solved for, but grid.model sets it"));
  CHECK(read(match("model.a~b")).match->by == "model.a~b");  // a tilde means something in a JSON pointer
  CHECK(read(match("model.a.b.c")).axes.size() == 1);
}

TEST_CASE("spec: random draws depend on the seed and the path only") {
  const auto text = R"({"random": {"samples": 3, "seed": 5, "axes": {"train.learning_rate": {"log": [1e-4, 1e-2]}}}})";
  const auto more = R"({"random": {"samples": 3, "seed": 5, "axes": {"model.depth": {"choice": [1, 2]},
                        "train.learning_rate": {"log": [1e-4, 1e-2]}}}})";
  const auto first = read(text), second = read(more);
  for (int i = 0; i < 3; ++i) {
    const double rate = first.axes[0].points[i][0].get<double>();
    CHECK(rate >= 1e-4);
    CHECK(rate <= 1e-2);
    CHECK(second.axes[0].points[i][1].get<double>() == rate);
  }
  CHECK(first.axes[0].points[0] != first.axes[0].points[1]);
}

TEST_CASE("spec: all mistakes of the structure are told at once, with lines and nearest names") {
  const auto error = spec_error(
      "{\n\"nmae\": \"x\",\n\"gird\": {},\n\"grid\": {\"mdoel.depth\": [1], \"train.steps\": []},\n\"seeds\": -1}");
  CHECK_THAT(error, ContainsSubstring("spec.json:2:1: nmae: unknown key; did you mean \"name\"?"));
  CHECK_THAT(error, ContainsSubstring("spec.json:3:1: gird: unknown key; did you mean \"grid\"?"));
  CHECK_THAT(error, ContainsSubstring("did you mean \"model\"?"));
  CHECK_THAT(error, ContainsSubstring("grid.train.steps: is an empty list"));
  CHECK_THAT(error, ContainsSubstring("spec.json:5:1: seeds: received the number -1"));
}

TEST_CASE("spec: claims are checked when it is read, at their places") {
  const auto good = R"({"claims": [{"claim": "a", "measure": "loss", "below": 2}]})";
  CHECK(read(good).document.value["claims"].size() == 1);
  CHECK_THAT(spec_error("{\"claims\": [\n{\"claim\": \"a\", \"measure\": \"loss\", \"bellow\": 2}]}"),
             ContainsSubstring("spec.json:2:35: claims[0].bellow: unknown key; did you mean \"below\"?"));
}

TEST_CASE("spec: two axes over one path are refused, also when one contains the other") {
  CHECK_THAT(spec_error(R"({"grid": {"model.depth": [1]}, "zip": {"model.depth": [2]}})"),
             ContainsSubstring("sets already"));
  CHECK_THAT(spec_error(R"({"grid": {"attention": [{"variant": "softmax"}], "attention.window": [4]}})"),
             ContainsSubstring("sets already"));
  CHECK_THAT(spec_error(R"({"grid": {"train.seed": [1]}, "seeds": 2})"), ContainsSubstring("sets already"));
}

TEST_CASE("spec: a name that would leave the results folder is refused") {
  for (const auto* name : {"../x", "a/b", ".hidden", "a\\u001b[2J", ""}) {
    INFO(name);
    const auto error = spec_error(std::string(R"({"name": ")") + name + "\"}");
    // An empty name falls back to the folder's name.
    if (*name) CHECK_THAT(error, ContainsSubstring("folder name"));
  }
}

TEST_CASE("spec: --set reaches the base, replaces an axis over the same path, and reports as --set") {
  const auto text =
      R"({"base": {"model": {"depth": 1}}, "grid": {"model.depth": [1, 2], "train.steps": [1]}, "seeds": 3})";
  const auto spec = read(text, {"model.depth=7", "seeds=1", "data.path=a b.txt"});
  CHECK(spec.num_runs() == 1);
  CHECK(spec.base["model"]["depth"] == 7);
  CHECK(spec.base["data"]["path"] == "a b.txt");
  CHECK(spec.document.place("base.model.depth") == "--set");
  CHECK(read(text, {"grid.model.depth=[4, 5, 6]"}).num_runs() == 9);
  CHECK(read(text, {"train.seed=4"}).num_runs() == 2);
  CHECK_THAT(spec_error(text, {"modle.depth=7"}), ContainsSubstring("did you mean \"model\"?"));
}

TEST_CASE("spec: --set is refused where an axis would overwrite it in another form") {
  const auto variants = R"({"grid": {"attention": [{"variant": "softmax"}, {"variant": "linear"}]}})";
  CHECK_THAT(spec_error(variants, {"attention.variant=softmax"}), ContainsSubstring("--set sets already"));
  CHECK(read(variants, {"attention={\"variant\":\"linear\"}"}).num_runs() == 1);
  const auto zips = R"({"zip": [{"model.depth": [1, 2]}, {"train.steps": [1, 2]}]})";
  CHECK_THAT(spec_error(zips, {"model.depth=3"}), ContainsSubstring("--set sets already"));
  CHECK(read(R"({"zip": {"model.depth": [1, 2]}})", {"model.depth=3"}).num_runs() == 1);
  const auto pair = R"({"zip": {"model.depth": [1, 2], "model.model_dim": [16, 32]}})";
  CHECK_THAT(spec_error(pair, {"model.depth=3"}),
             ContainsSubstring("zip: sets model.depth, which --set sets already") &&
                 ContainsSubstring("model.depth, model.model_dim are walked together"));
  CHECK(read(pair, {"model.depth=3", "model.model_dim=16"}).num_runs() == 1);
}
