#include "train/log_rows.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

TEST_CASE("log_rows: rows that say the mark come in order, others and a torn end are left out") {
  const auto rows = log_rows_with("eval",
                                  "{\"step\":1}\n{\"step\":2,\"eval\":true}\n{\"step\":3,\"watch\":true}\n"
                                  "{\"step\":4,\"eval\":true}\n{\"step\":5,\"eval\":true}",
                                  "log");
  REQUIRE(rows.size() == 2);
  CHECK(rows[0]["step"] == 2);
  CHECK(rows[1]["step"] == 4);
}

TEST_CASE("log_rows: the mark inside of a value or a text is none") {
  CHECK(log_rows_with("eval", "{\"a\":{\"eval\":true}}\n{\"b\":\"\\\"eval\\\":true\"}\n", "log").empty());
}

TEST_CASE("log_rows: a row that says the mark and is no object is refused with its byte") {
  CHECK_THROWS_MATCHES(log_rows_with("eval", "{}\n{\"eval\":true\n", "log"), DataError,
                       MessageMatches(ContainsSubstring("log: byte 3: not a row of JSON")));
  CHECK_THROWS_AS(log_rows_with("eval", "[{\"eval\":true}]\n", "log"), DataError);
}
