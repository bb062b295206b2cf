#include "core/options.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Sample {
  int64_t window = 128;
  double rate = 0.5;
  bool shared = true;
  std::string norm = "layer_norm";
  std::optional<int64_t> width;

  static const Fields& fields() {
    static const Fields list = {
        field(&Sample::window, "window", "latest keys").between(1, 1024).in("positions"),
        field(&Sample::rate, "rate", "a rate").above(0),
        field(&Sample::shared, "shared", "whether shared"),
        field(&Sample::norm, "norm", "which norm").one_of({"layer_norm", "rms_norm"}),
        field(&Sample::width, "width", "width; 4 windows when left out").at_least(1),
    };
    return list;
  }
};

std::vector<Problem> problems_of(const Json& json) {
  Sample sample;
  std::vector<Problem> problems;
  read_options(json, "s", sample, problems);
  return problems;
}

}  // namespace

TEST_CASE("options: what is written is read back equal") {
  Sample sample{.window = 7, .rate = 0.1, .shared = false, .norm = "rms_norm", .width = 3};
  Sample back;
  std::vector<Problem> problems;
  read_options(write_options(sample), "", back, problems);
  CHECK(problems.empty());
  CHECK(write_options(back) == write_options(sample));
  CHECK(back.rate == 0.1);
  CHECK(back.width == 3);
}

TEST_CASE("options: an optional field that is unset is left out") {
  CHECK_FALSE(write_options(Sample{}).contains("width"));
}

TEST_CASE("options: null in an optional field is as if it were left out, and the schema says so") {
  Sample sample{.width = 3};
  std::vector<Problem> problems;
  read_options(Json{{"width", nullptr}}, "", sample, problems);
  CHECK(problems.empty());
  CHECK(write_options(sample) == write_options(Sample{.width = 3}));
  CHECK(schema_of(Sample::fields())["properties"]["width"]["type"] == Json::array({"integer", "null"}));
}

TEST_CASE("options: a value that is not of the type or out of range is refused, never converted") {
  const auto bad = GENERATE(R"({"window": 0.9})", R"({"window": -1})", R"({"window": 0})", R"({"window": 1025})",
                            R"({"window": "64"})", R"({"window": true})", R"({"window": null})", R"({"window": [64]})",
                            R"({"window": 18446744073709551616})", R"({"window": 18446744073709551615})",
                            R"({"window": 1e3})", R"({"rate": 0})", R"({"rate": "x"})", R"({"shared": 1})",
                            R"({"norm": "batch"})", R"({"norm": 3})", R"({"norm": "a\u0007"})");
  INFO(bad);
  const auto problems = problems_of(Json::parse(bad));
  REQUIRE(problems.size() == 1);
  CHECK_THAT(problems[0].message, ContainsSubstring("received"));
  CHECK_THAT(problems[0].message, ContainsSubstring("expected"));
}

TEST_CASE("options: all wrong keys are reported together, with the nearest known name") {
  const auto problems = problems_of(Json::parse(R"({"windw": 3, "shard": true, "rate": -1})"));
  REQUIRE(problems.size() == 3);
  CHECK(problems[0].path == "s.windw");
  CHECK_THAT(problems[0].message, ContainsSubstring("did you mean \"window\"?"));
  CHECK_THAT(problems[1].message, ContainsSubstring("did you mean \"shared\"?"));
  CHECK_THAT(problems[2].message, ContainsSubstring("above 0"));
}

TEST_CASE("options: a mistyped choice names the right one") {
  CHECK_THAT(problems_of(Json::parse(R"({"norm": "rms_nrom"})")).at(0).message,
             ContainsSubstring("did you mean \"rms_norm\"?"));
}

TEST_CASE("options: the schema states type, bounds, choices and defaults") {
  const auto schema = schema_of(Sample::fields());
  CHECK(schema["additionalProperties"] == false);
  CHECK(schema["properties"]["window"]["type"] == "integer");
  CHECK(schema["properties"]["window"]["minimum"] == 1);
  CHECK(schema["properties"]["window"]["maximum"] == 1024);
  CHECK(schema["properties"]["window"]["default"] == 128);
  CHECK(schema["properties"]["rate"]["exclusiveMinimum"] == 0);
  CHECK(schema["properties"]["norm"]["enum"] == Json({"layer_norm", "rms_norm"}));
  CHECK_FALSE(schema["properties"]["width"].contains("default"));
}

TEST_CASE("options: --set takes JSON where it is JSON and text otherwise") {
  CHECK(parse_assignment("model.depth=4") == std::pair<std::string, Json>("model.depth", 4));
  CHECK(parse_assignment("data.path=a=b.txt") == std::pair<std::string, Json>("data.path", "a=b.txt"));
  CHECK(parse_assignment("attention={\"variant\":\"linear\"}").second["variant"] == "linear");
  for (const auto* malformed : {"model.depth", "=4", "", ".depth=4", "model.=4", "model..depth=4", "model depth=4"}) {
    INFO(malformed);
    try {
      parse_assignment(malformed);
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::usage);
      CHECK_THAT(error.what(), Catch::Matchers::ContainsSubstring("--set model.depth=4"));
    }
  }
}

TEST_CASE("options: a path sets a value inside, and refuses to pass through a number") {
  Json object = Json::parse(R"({"a": {"b": 1}})");
  set_path(object, "a.c", 2);
  set_path(object, "d.e.f", 3);
  CHECK(object == Json::parse(R"({"a": {"b": 1, "c": 2}, "d": {"e": {"f": 3}}})"));
  CHECK_THROWS_AS(set_path(object, "a.b.x", 1), ConfigError);
}

namespace {

struct Dependent {
  std::string kind = "plain";
  double limit = 0;
  int64_t period = 3;

  static const Fields& fields() {
    static const Fields list = {
        field(&Dependent::kind, "kind", "which").one_of({"plain", "step"}),
        field(&Dependent::limit, "limit", "a limit").at_least(0),
        field(&Dependent::period, "period", "steps between drops")
            .at_least(1)
            .in("steps")
            .only_with<Dependent>("kind step and limit above 0",
                                  [](const Dependent& o) { return o.kind == "step" && o.limit > 0; }),
    };
    return list;
  }
};

}  // namespace

TEST_CASE("options: one that has no effect beside the others is refused by name, and not written out") {
  const auto read = [](const char* text, Dependent& into) {
    std::vector<Problem> problems;
    read_options(Json::parse(text), "d", into, problems);
    return problems;
  };
  Dependent without, with, mistyped;
  const auto problems = read(R"({"period": 4, "kind": "step"})", without);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].path == "d.period");
  CHECK(problems[0].message ==
        "received the number 4, but it has an effect only with kind step and limit above 0; leave it out");
  CHECK_FALSE(write_options(without).contains("period"));
  CHECK(read(R"({"period": 4, "kind": "step", "limit": 1})", with).empty());
  CHECK(write_options(with)["period"] == 4);
  // A mistyped kind is the fault; whether the period has an effect is not known.
  CHECK(read(R"({"period": 4, "kind": "stp", "limit": 1})", mistyped).size() == 1);
}

TEST_CASE("options: docs, schema and JSON say when an option has an effect") {
  CHECK_THAT(table_of(Dependent::fields()),
             ContainsSubstring("steps between drops; only with kind step and limit above 0 (steps)"));
  CHECK_THAT(schema_of(Dependent::fields())["properties"]["period"]["description"].get<std::string>(),
             ContainsSubstring("only with kind step"));
  CHECK(describe_fields(Dependent::fields())[2]["only_with"] == "kind step and limit above 0");
  CHECK_FALSE(describe_fields(Dependent::fields())[0].contains("only_with"));
}
