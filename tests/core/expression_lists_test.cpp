#include "core/expression_lists.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/expression.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

/// Of an expression over one list `x`.
Json over(const std::string& text, const Json& x) {
  const auto expression = Expression::parse(text);
  return expression.value(std::vector<const Json*>(expression.names().size(), &x));
}

}  // namespace

TEST_CASE("expression lists: ends, parts, means and slopes are those of the list") {
  const Json x = {1, 3, 8};
  CHECK(over("first(x)", x) == 1);
  CHECK(over("last(x)", x) == 8);
  CHECK(over("mean(x)", x) == 4.0);
  CHECK(over("slope(x)", x) == 3.5);  // (-1 (1 - 4) + 1 (8 - 4)) / 2
  CHECK(over("part(x, 1, 3)", x) == Json({3, 8}));
  CHECK(over("part(x, -2, 99)", x) == Json({3, 8}));
  CHECK(over("min(x) + max(x)", x) == 9);
  CHECK(over("log2(part(x, 0, 1))", x) == Json({0.0}));
  CHECK(over("slope(last(x))", Json::array({{9, 9}, {1, 5}})) == 4.0);
}

TEST_CASE("expression lists: nothing comes of no list and of too short ones") {
  for (const auto* text : {"first(x)", "last(x)", "mean(x)", "slope(x)", "part(x, 0, 1)"})
    CHECK(over(text, nullptr).is_null());
  for (const auto* text : {"first(x)", "last(x)", "mean(x)", "slope(x)", "min(x)"})
    CHECK(over(text, Json::array()).is_null());
  CHECK(over("slope(x)", Json({1})).is_null());
  CHECK(over("mean(x)", Json({1, nullptr})).is_null());
}

TEST_CASE("expression lists: what is no list and what is no number is named") {
  CHECK_THROWS_WITH(over("mean(x)", 3), ContainsSubstring("mean of the number 3; expected a list"));
  CHECK_THROWS_WITH(over("slope(x)", Json({1, "a"})), ContainsSubstring("slope of a list with the text \"a\" in it"));
  CHECK_THROWS_WITH(over("part(x, 0.5, 1)", Json({1})), ContainsSubstring("two whole numbers"));
}
