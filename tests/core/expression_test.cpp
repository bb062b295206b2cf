#include "core/expression.h"

#include <map>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

using Values = std::map<std::string, Json>;

/// The values of an expression's names, in its order; a name that is not given is none.
std::vector<const Json*> bind(const Expression& expression, const Values& values) {
  std::vector<const Json*> bound;
  for (const auto& name : expression.names()) bound.push_back(values.contains(name) ? &values.at(name) : nullptr);
  return bound;
}

Json value(const std::string& text, const Values& values = {}) {
  const auto expression = Expression::parse(text);
  return expression.value(bind(expression, values));
}

bool holds(const std::string& text, const Values& values = {}) {
  const auto expression = Expression::parse(text);
  return expression.holds(bind(expression, values));
}

}  // namespace

// The expected values are Python 3's for the same text.
TEST_CASE("expression: arithmetic binds and rounds as in Python") {
  CHECK(value("2 + 3 * 4") == 14);
  CHECK(value("(2 + 3) * 4") == 20);
  CHECK(value("2 ** 3 ** 2") == 512);
  CHECK(value("-2 ** 2") == -4);
  CHECK(value("2 ** -1") == 0.5);
  CHECK(value("7 // 2 - 7 // -2") == 7);
  CHECK(value("-7 % 3") == 2);
  CHECK(value("7 % -3") == -2);
  CHECK(value("10 - 4 - 3") == 3);
  CHECK(value("7 / 2") == 3.5);
  CHECK(value("-7.5 // 2") == -4.0);
  CHECK(value("1e3 + .5") == 1000.5);
  CHECK(value("1 if 2 > 3 else 5 if false else 7") == 7);
  CHECK(value("2 ** 62 - 1 + 2 ** 62") == INT64_MAX);
}

TEST_CASE("expression: whole numbers stay whole, so that a size can be calculated") {
  for (const auto* text : {"4 * 16", "2 ** 10", "130 // 4", "round_to(130 / 3, 8)", "max(3, 7)", "round(2.5)",
                           "abs(-3)", "floor(-0.5)", "ceil(0.2)"})
    CHECK(value(text).is_number_integer());
  CHECK(value("round_to(130 / 3, 8)") == 40);  // 43.3
  CHECK(value("4 / 2").is_number_float());
  CHECK(value("log2(1024)") == 10.0);
  CHECK(value("sqrt(2) ** 2 > 1.99") == true);
}

TEST_CASE("expression: conditions over names with dots, texts and lists") {
  const Values run = {{"attention.variant", "linear"}, {"depth", 4}, {"loss", 1.5}, {"flags", Json::array({"jumped"})}};
  CHECK(holds("attention.variant == \"linear\" and depth > 2", run));
  CHECK(holds("attention.variant == 'linear' && !(depth <= 2)", run));
  CHECK_FALSE(holds("attention.variant != 'linear' or depth > 4", run));
  CHECK(holds("attention.variant in ['softmax', 'linear'] and 'lin' in attention.variant", run));
  CHECK(holds("depth not in [1, 2]", run));
  CHECK(holds("1 < depth <= 4 < 5", run));
  CHECK_FALSE(holds("1 < depth <= 3", run));
  CHECK(holds("'jumped' in flags and flags != []", run));
  CHECK(holds("not loss > 2", run));
  CHECK(holds("depth == 4.0", run));
  CHECK_FALSE(holds("attention.variant == 4", run));
}

TEST_CASE("expression: what is not there equals none alone, and no comparison with it holds") {
  CHECK(holds("loss == none"));
  CHECK_FALSE(holds("loss == 0"));
  CHECK_FALSE(holds("loss < 2"));
  CHECK_FALSE(holds("loss >= 2"));
  CHECK_FALSE(holds("'x' in loss"));
  CHECK_FALSE(holds("loss"));
  CHECK(value("4 * loss").is_null());
  CHECK(value("max(loss, 1)").is_null());
}

TEST_CASE("expression: the names are found, each once, and a list of expressions is split at its commas") {
  CHECK(Expression::parse("depth * depth + model.depth - min(a, 'b' == c)").names() ==
        std::vector<std::string>{"depth", "model.depth", "a", "c"});
  const auto list = Expression::parse_list("id, max(a, b) , loss/2");
  REQUIRE(list.size() == 3);
  CHECK(list[1].text() == "max(a, b)");
  CHECK(list[2].text() == "loss/2");
}

TEST_CASE("expression: what cannot be read is refused with the column and a repair") {
  const auto refused = [](const std::string& text, const std::string& message) {
    CHECK_THROWS_WITH(Expression::parse(text), ContainsSubstring(message));
  };
  refused("depth = 2", "column 7: received \"=\", expected an operator or the end; for equality write ==");
  refused("", "column 1: received the end, expected a number");
  refused("(depth", "column 7: received the end, expected \")\"");
  refused("depth >", "column 8: received the end");
  refused("variant == \"linear", "column 12: the text is not closed");
  refused("flor(2)", "did you mean \"floor\"?");
  refused("round_to(2)", "round_to of 1 values, expected 2");
  refused("12ab", "\"12ab\" is not a number");
  refused("99999999999999999999 + 9223372036854775808", "9223372036854775808");
  refused("1e999", "is not a number");
  refused("depth 2", "column 7: received \"2\", expected an operator or the end");
  refused("a; b", "no statements");
  refused("depth @ 2", "\"@\" has no meaning here");
  refused("1 if 2", "expected \"else\"");
  refused("a not b", "expected \"in\" behind \"not\"");
  refused("\xff", "has no meaning here");
}

TEST_CASE("expression: what has no value is refused with the operator and what it was given") {
  CHECK_THROWS_WITH(value("1 + 'a'"), ContainsSubstring("+ cannot be had of the number 1 and the text \"a\""));
  CHECK_THROWS_WITH(value("1 < 'a'"), ContainsSubstring("< orders two numbers or two texts"));
  CHECK_THROWS_WITH(value("1 // 0"), ContainsSubstring("// in whole numbers of 64 bits"));
  CHECK_THROWS_WITH(value("1 / 0"), ContainsSubstring("/ with a finite result"));
  CHECK_THROWS_WITH(value("2 ** 64"), ContainsSubstring("64 bits"));
  CHECK_THROWS_WITH(value("9223372036854775807 + 1"), ContainsSubstring("64 bits"));
  CHECK_THROWS_WITH(value("log(0)"), ContainsSubstring("log with a finite result"));
  CHECK_THROWS_WITH(holds("depth", {{"depth", 4}}), ContainsSubstring("expected a condition"));
  CHECK_THROWS_WITH(value("1 in 2"), ContainsSubstring("\"in\" looks into a list"));
}

TEST_CASE("expression: a hostile text uses up neither the stack nor the time") {
  for (const auto* opener : {"(", "[", "-", "not ", "abs(", "2**", "1 if 2 else "}) {
    std::string text;
    for (int i = 0; i < 200; ++i) text += opener;
    CHECK_THROWS_WITH(Expression::parse(text + "1"), ContainsSubstring("levels deep"));
  }
  CHECK_THROWS_AS(Expression::parse(std::string(5000, '1')), ConfigError);
  std::string sum = "1";
  while (sum.size() < 3990) sum += "+1";
  CHECK(value(sum) == static_cast<int64_t>(sum.size() + 1) / 2);
  CHECK(value("0 ** 9223372036854775807 + (-1) ** 9223372036854775807") == -1);
}
