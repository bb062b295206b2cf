#include "core/claim.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("claim: what is expected is told in words, and holds strictly inside the bounds") {
  std::vector<Problem> problems;
  const auto claims =
      read_claims(Json::parse(R"([{"claim": "a", "measure": "loss", "above": 1, "below": 2.5}])"), problems);
  REQUIRE(claims.size() == 1);
  CHECK(claims[0].expected() == "above 1 and below 2.5");
  CHECK(claims[0].expects(2));
  CHECK_FALSE(claims[0].expects(1));
  CHECK_FALSE(claims[0].expects(2.5));
  CHECK(claims[0].place == "claims[0]");
}

TEST_CASE("claim: a spec's mistakes are told at their places") {
  const auto problems_of = [](const std::string& text) {
    std::vector<Problem> problems;
    CHECK(read_claims(Json::parse(text), problems).empty());
    std::string all;
    for (const auto& problem : problems) all += problem.path + ": " + problem.message + "\n";
    return all;
  };
  CHECK(problems_of(R"({"claim": 1})") == "claims: received an object, expected a list of objects\n");
  CHECK_THAT(problems_of(R"(["loss"])"),
             ContainsSubstring("claims[0]: received the text \"loss\", expected an object"));
  CHECK_THAT(problems_of(R"([{"claim": "a", "mesure": "loss", "below": 0}])"),
             ContainsSubstring("claims[0].mesure: unknown key; did you mean \"measure\"?") &&
                 ContainsSubstring("claims[0]: \"measure\" is missing"));
  CHECK_THAT(problems_of(R"([{"claim": "a", "measure": "loss"}])"), ContainsSubstring("give \"above\" or \"below\""));
  CHECK_THAT(problems_of(R"([{"claim": "a", "measure": "loss", "above": 1, "below": 0}])"),
             ContainsSubstring("claims[0].below: 0 leaves nothing above 1"));
  CHECK_THAT(problems_of(R"([{"claim": "a", "measure": "loss +", "below": 0}])"),
             ContainsSubstring("claims[0].measure: \"loss +\": column 7"));
  CHECK_THAT(problems_of(R"([{"claim": "a", "measure": "loss", "as": "ratio", "below": 0}])"),
             ContainsSubstring("claims[0].as: there is nothing to compare with"));
  CHECK_THAT(problems_of(R"([{"claim": "a", "measure": "loss", "as": "quotient", "below": 0}])"),
             ContainsSubstring("expected difference or ratio"));
  CHECK_THAT(problems_of(R"([{"claim": "a", "measure": "loss", "optimum": "x", "tune": "x", "below": 0}])"),
             ContainsSubstring("claims[0].optimum: asks where the measure is least"));
  CHECK_THAT(problems_of(R"([{"claim": "a", "measure": "loss", "optimum": "x", "against": "a == 1", "as": "ratio",
                              "below": 0}])"),
             ContainsSubstring("claims[0].as: octaves are compared by their difference"));
  CHECK_THAT(problems_of(R"([{"claim": "a", "measure": "loss", "below": "0"}])"),
             ContainsSubstring("claims[0].below: received the text \"0\", expected a number"));
}

TEST_CASE("claim: one that cannot be read stands in its place with the reason, and the others are read") {
  const auto document = parse_json(R"({"claims": [{"claim": "a", "measure": "loss +", "below": 1}, 3,
{"claim": "c", "measure": "loss", "below": 1}]})",
                                   "s.json");
  const auto claims = readable_claims(document);
  REQUIRE(claims.size() == 3);
  CHECK(claims[0].text == "a");
  CHECK(claims[0].refused.starts_with("s.json:1:28: claims[0].measure: "));
  CHECK(claims[1].text == "claims[1]");
  CHECK(claims[1].refused.find("claims[1]: received the number 3, expected an object") != std::string::npos);
  CHECK(claims[2].refused.empty());
  CHECK(claims[2].place == "claims[2]");
  CHECK_THROWS_AS(readable_claims(parse_json(R"({"claims": {}})", "s.json")), ConfigError);
}
