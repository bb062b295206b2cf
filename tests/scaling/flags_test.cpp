#include "scaling/flags.h"

#include <algorithm>
#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "scaling/fit.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("doubts: the same flag of several fits is one line, graver ones first, and the gravest text counts") {
  Doubts doubts;
  doubts.add(to_json({{"short_span_D", Severity::warning, "D spans 2x"}, {"read", Severity::note, "read E of L(N,D)"}}),
             "L(N,D)");
  doubts.add(to_json({{"short_span_D", Severity::warning, "D spans 3x"}}), "L(D)");
  doubts.add(to_json({{"no_fall_N", Severity::error, "rises"}, {"read", Severity::warning, "do read it"}}), "L(N)");
  const auto list = doubts.list();
  REQUIRE(list.size() == 3);
  CHECK(list[0]["id"] == "no_fall_N");
  CHECK(list[1]["id"] == "short_span_D");
  CHECK(list[1]["text"] == "D spans 2x");
  CHECK(list[1]["in"] == Json({"L(N,D)", "L(D)"}));
  CHECK(list[1]["times"] == 2);
  CHECK(list[2]["severity"] == "warning");
  CHECK(list[2]["text"] == "do read it");
  CHECK(doubts_text(list, 1) == "! error: rises (L(N))\n  and 2 more, in the JSON document\n");
}

TEST_CASE("doubts: a small sweep of two variants is told a handful of things once each, and every flag has an id") {
  std::vector<Point> points = grid_points({.E = 1.7, .A = 12.6, .B = 400, .alpha = 0.5, .beta = 0.6}, {1e3, 2e3, 4e3},
                                          {1e5, 2e5, 4e5}, 2, [](int i) { return 0.002 * std::sin(1.7 * i * i); });
  for (auto& point : points) point.variant = point.seed == 0 ? "softmax" : "linear";
  const auto report = fit_report(points, {.replicates = 20});
  std::set<std::string> ids, texts;
  for (const auto& doubt : report["doubts"]) {
    CHECK(ids.insert(doubt["id"]).second);
    CHECK(texts.insert(doubt["text"]).second);
  }
  size_t flags = 0;
  for (const auto& [name, form] : report["forms"].items())
    for (const auto& flag : form["flags"]) {
      ++flags;
      CHECK(ids.count(flag["id"]));
    }
  CHECK(flags > ids.size());
  const auto text = fit_text(report);
  CHECK(std::count(text.begin(), text.end(), '!') <= 6);
  CHECK_THAT(text, ContainsSubstring("What to doubt, and what to run next") && ContainsSubstring("N spans only 4x"));
}
