#include "sweep/ranges.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinRel;

namespace {
std::vector<Json> expand(const char* text, size_t expected_problems = 0) {
  std::vector<Problem> problems;
  auto values = expand_values(Json::parse(text), "grid.x", problems);
  CHECK(problems.size() == expected_problems);
  return values;
}
}  // namespace

TEST_CASE("ranges: a log range has its ends and equal ratios between") {
  const auto values = expand(R"({"log": [1e-4, 1e-2], "points": 3})");
  REQUIRE(values.size() == 3);
  CHECK(values[0] == 1e-4);
  CHECK_THAT(values[1].get<double>(), WithinRel(1e-3, 1e-12));  // a few roundings of a power
  CHECK(values[2] == 1e-2);
}

TEST_CASE("ranges: sizes are rounded to whole multiples, and a repeated one is kept once") {
  CHECK(expand(R"({"log": [16, 128], "points": 4, "multiple_of": 8})") == std::vector<Json>{16, 32, 64, 128});
  CHECK(expand(R"({"linear": [1, 3], "points": 9, "multiple_of": 1})") == std::vector<Json>{1, 2, 3});
  CHECK(expand(R"({"linear": [1, 3], "points": 3, "multiple_of": 1})").at(0).is_number_integer());
}

TEST_CASE("ranges: what is not a range is refused") {
  expand("3", 1);
  expand("[]", 1);
  expand("{}", 1);
  expand(R"({"log": [0, 1], "points": 3})", 1);
  expand(R"({"log": [2, 1], "points": 3})", 1);
  expand(R"({"log": [1, 2]})", 1);
  expand(R"({"log": [1, 2], "points": 1e12})", 1);
  expand(R"({"log": [1, 2], "points": 1000000000000})", 1);
  expand(R"({"log": [1, 2], "linear": [1, 2], "points": 3})", 1);
  expand(R"({"lgo": [1, 2], "points": 3})", 1);
  expand(R"({"log": [1, 2], "points": 3, "multiple_of": 0})", 1);
}

TEST_CASE("ranges: draws stay inside, cover the range, and choices are all drawn") {
  std::vector<Problem> problems;
  const auto values = draw_values(Json::parse(R"({"log": [1, 100]})"), "w", 1, "train.learning_rate", 2000, problems);
  int below_ten = 0;
  for (const auto& value : values) {
    CHECK(value.get<double>() >= 1);
    CHECK(value.get<double>() <= 100);
    below_ten += value.get<double>() < 10;
  }
  // Half of the draws in the logarithm; four standard errors of a fair coin are 89.
  CHECK(std::abs(below_ten - 1000) < 90);
  const auto choices = draw_values(Json::parse(R"({"choice": ["a", "b"]})"), "w", 1, "p", 50, problems);
  CHECK(std::count(choices.begin(), choices.end(), Json("a")) > 5);
  CHECK(std::count(choices.begin(), choices.end(), Json("b")) > 5);
  CHECK(problems.empty());
}
