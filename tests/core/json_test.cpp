#include "core/json.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {
std::string error_of(std::string_view text) {
  try {
    parse_json(text, "spec.json");
  } catch (const ConfigError& error) {
    CHECK(error.code() == ExitCode::bad_input);
    return error.what();
  }
  return "no error";
}
}  // namespace

TEST_CASE("json: values know the line and column where they stood") {
  const auto document = parse_json("{\n  \"a\": 1,\n  \"b\": [10, {\"c\": \"x\"}]\n}", "f");
  CHECK(document.place("a") == "f:2:3");
  CHECK(document.place("b") == "f:3:3");
  CHECK(document.place("b[0]") == "f:3:9");
  CHECK(document.place("b[1].c") == "f:3:14");
  CHECK(document.value["b"][1]["c"] == "x");
}

TEST_CASE("json: a place that is not in the text is its nearest parent's") {
  const auto document = parse_json("{\n \"model\": {\"depth\": 2}}", "f");
  CHECK(document.place("model.width") == "f:2:2");
  CHECK(document.place("train.steps") == "f:1:1");
}

TEST_CASE("json: a key with dots keeps its own place") {
  const auto document = parse_json("{\"grid\": {\n\"model.depth\": [1, 2]}}", "f");
  CHECK(document.place("grid.model.depth[1]") == "f:2:20");
}

TEST_CASE("json: numbers at the end of containers do not shift later places") {
  // The parser reads one character past a number to know that it ended.
  const auto document = parse_json("[1,22 , 333]", "f");
  CHECK(document.place("[0]") == "f:1:2");
  CHECK(document.place("[1]") == "f:1:4");
  CHECK(document.place("[2]") == "f:1:9");
}

TEST_CASE("json: comments are allowed and do not move places") {
  const auto document = parse_json("{ // sizes\n /* two\n lines */ \"a\": 1}", "f");
  CHECK(document.place("a") == "f:3:11");
  CHECK(parse_json("{/*/ */\"a\": 1}", "f").place("a") == "f:1:8");
  // Whatever ends a comment for the library that reads it ends it for the places, too.
  CHECK(parse_json("{// a\r\"b\": [ // c\r7]}", "f").place("b[0]") == "f:1:19");
  CHECK(parse_json(std::string_view("{// a\0\"b\": [ // c\0007]}", 21), "f").place("b[0]") == "f:1:19");
  CHECK_THAT(error_of("{ // \r\"a\": {\n/* x"), StartsWith("spec.json:2:"));
}

TEST_CASE("json: duplicate keys are refused at the second one") {
  CHECK_THAT(error_of("{\"a\": 1,\n \"b\": 2, \"a\": 3}"), StartsWith("spec.json:2:10: a: duplicate key"));
  CHECK_THAT(error_of("{\"x\": {\"a\": 1, \"a\": 3}}"), ContainsSubstring("x.a: duplicate key"));
}

TEST_CASE("json: what other readers let through is refused with its place") {
  CHECK_THAT(error_of("{\"a\": NaN}"), StartsWith("spec.json:1:"));
  CHECK_THAT(error_of("{\"a\": 1e400}"), ContainsSubstring("too large for a double"));
  CHECK_THAT(error_of("\xEF\xBB\xBF{}"), ContainsSubstring("byte-order mark"));
  CHECK_THAT(error_of("{\"a\": \"\xff\"}"), ContainsSubstring("UTF-8"));
  CHECK_THAT(error_of(""), ContainsSubstring("is empty"));
  CHECK_THAT(error_of("  \n"), ContainsSubstring("is empty"));
  CHECK_THAT(error_of("{\"a\": [1, 2"), ContainsSubstring("truncated"));
  CHECK_THAT(error_of("{\"a\": 1,}"), StartsWith("spec.json:1:9"));
  CHECK_THAT(error_of(std::string_view("\x7f"
                                       "ELF\0\1",
                                       6)),
             StartsWith("spec.json:1:1"));
}

TEST_CASE("json: a hundred thousand brackets are refused, not recursed into") {
  CHECK_THAT(error_of(std::string(100'000, '[')), ContainsSubstring("64 levels"));
}

TEST_CASE("json: all problems are told together, each once, each with its place") {
  const auto document = parse_json("{\"a\": 1,\n\"b\": 2}", "f");
  try {
    document.refuse({{"a", "too small"}, {"b", "too large"}, {"a", "too small"}});
    FAIL("expected ConfigError");
  } catch (const ConfigError& error) {
    CHECK(std::string(error.what()) == "f:1:2: a: too small\nf:2:1: b: too large");
  }
}

TEST_CASE("json: the canonical form does not depend on the order of keys") {
  CHECK(canonical(Json::parse(R"({"b": 0.1, "a": [1, 2]})")) == R"({"a":[1,2],"b":0.1})");
}

TEST_CASE("json: the canonical form is what the library writes of sorted keys") {
  for (const auto* text :
       {"{}", "[]", R"({"b": {}, "a": [], "ab": null, "B": true})", R"([[1, [2.0, -0.0]], {"z": [{"y": 1, "x": 2}]}])",
        R"({"tab\t": "quote \" and \\ back\u0001", "\u00e9": "\ud83d\ude00 \u007f/"})",
        "[0, -1, 18446744073709551615, -9223372036854775808, 1e-05, 0.1, 1e300, 5e-324, 1e16, 123456789.125, 1.0]",
        R"("alone")", "-3", "2.5", "false"})
    CHECK(canonical(Json::parse(text)) == nlohmann::json::parse(text).dump());
  CHECK(canonical(Json(int64_t{-4})) == "-4");
  CHECK(canonical(Json(uint64_t{4})) == "4");
}
