#include "scaling/result_rows.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "scaling/scaling.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string row_refusal(const std::string& content) {
  TemporaryFolder folder;
  folder.write("results.jsonl", content);
  try {
    read_result_rows(folder.path());
  } catch (const DataError& error) {
    return error.what();
  }
  FAIL("was taken: " << content);
  return "";
}

}  // namespace

TEST_CASE("result_rows: the last row of an id counts, a torn last line is noted, and places name the line") {
  TemporaryFolder folder;
  folder.write("results.jsonl", R"({"id":"a","status":"failed"})"
                                "\n\n"
                                R"({"id":"b","status":"done","loss":1})"
                                "\n"
                                R"({"id":"a","status":"done","loss":2})"
                                "\n"
                                R"({"id":"c","sta)");
  const auto results = read_result_rows(folder.path());
  REQUIRE(results.rows.size() == 2);
  CHECK(results.rows[0]["loss"] == 2);
  CHECK_THAT(results.places[0], ContainsSubstring("results.jsonl:4"));
  REQUIRE(results.notes.size() == 1);
  CHECK_THAT(results.notes[0], ContainsSubstring("Line 5 of results.jsonl was cut short"));
}

TEST_CASE("result_rows: every field of a wrong type is named by file, line and field, all at once") {
  const auto message = row_refusal(R"({"id":"a","status":3,"loss":"2","config":{"attention":{"variant":7}}})"
                                   "\n"
                                   R"({"id":"b","truth":{"bayes_loss":[1]},"curve":{"loss":[1,"x"]},"flags":"bad"})"
                                   "\n"
                                   R"({"id":5,"config":[]})"
                                   "\n"
                                   R"({"status":"done"})"
                                   "\n");
  for (const char* expected :
       {"results.jsonl:1: status: received the number 3; expected a text",
        "results.jsonl:1: loss: received the text \"2\"; expected a number",
        "results.jsonl:1: config.attention.variant:", "results.jsonl:2: truth.bayes_loss: received a list",
        "results.jsonl:2: curve.loss: received a list", "results.jsonl:2: flags:",
        "results.jsonl:3: id: received the number 5", "results.jsonl:3: config:", "results.jsonl:4: id: is missing"})
    CHECK_THAT(message, ContainsSubstring(expected));
}

TEST_CASE("result_rows: an empty file, a broken line and a folder without results say what to do") {
  CHECK_THAT(row_refusal(""), ContainsSubstring("has no rows"));
  CHECK_THAT(row_refusal("{\"id\": }\n{\"id\":\"a\"}\n"), ContainsSubstring("results.jsonl:1:8:"));
  CHECK_THAT(row_refusal("[1]\n"), ContainsSubstring("results.jsonl:1: holds a list"));
  TemporaryFolder folder;
  CHECK_THROWS_AS(read_result_rows(folder.path()), DataError);
  CHECK_THROWS_AS(read_result_rows(folder.path() / "absent"), IoError);
}

TEST_CASE("result_rows: fits refuse a wrong type as the reader does, never with a parser's exception") {
  TemporaryFolder folder;
  folder.write("results.jsonl",
               R"({"id":"a","status":"done","loss":1,"params":1,"tokens":1,"truth":{"bayes_loss":"x"}})"
               "\n");
  CHECK_THROWS_AS(scaling_of_sweep(folder.path()), DataError);
  CHECK_THROWS_AS(fit_of_path(folder.path(), {}), DataError);
}
