#include "report/bench_figure.h"

#include <catch2/catch_test_macros.hpp>

#include "core/error.h"
#include "report/vega_engine.h"

using namespace attnscale;

namespace {

Json row(const char* variant, int length, double ms, double bytes) {
  return {{"variant", variant}, {"length", length}, {"forward_backward_ms", {{"median", ms}}}, {"peak_bytes", bytes}};
}

/// b crosses softmax between the lengths, c stops early, d was left out everywhere.
Json bench() {
  return {{"threads", 1},
          {"dtype", "float32"},
          {"rows",
           {row("softmax", 512, 10, 100), row("softmax", 1024, 40, 200), row("b", 512, 15, 300),
            row("b", 1024, 30, 600), row("c", 512, 100, 50)}},
          {"variants",
           {{{"variant", "softmax"}, {"family", "full"}},
            {{"variant", "b"},
             {"family", "linear"},
             {"crossover", {{"kind", "at"}, {"length", 700}, {"low", 650}, {"high", 720}}}},
            {{"variant", "c"}, {"family", "sparse"}, {"with_projections", true}},
            {{"variant", "d"}, {"family", "sparse"}}}}};
}

}  // namespace

TEST_CASE("bench figure: multiples of softmax at the longest length both were timed at") {
  const auto figure = attention_cost_figure(bench());
  const auto& rows = figure.spec["data"]["values"];
  REQUIRE(rows.size() == 3);
  CHECK(rows[0]["variant"] == "softmax");
  CHECK(rows[0]["time"] == 1);
  CHECK(rows[1]["time"] == 0.75);
  CHECK(rows[1]["memory"] == 3);
  CHECK(rows[1]["x"] == 700);
  CHECK(rows[1]["low"] == 650);
  CHECK(rows[2]["variant"] == "c*");
  CHECK(rows[2]["length"] == 512);
  CHECK(rows[2]["time"] == 10);
  CHECK(rows[2]["memory"] == 0.5);
  CHECK_FALSE(rows[2].contains("x"));
}

TEST_CASE("bench figure: it draws, and without softmax it says what to add") {
  if (VegaEngine::available()) {
    const auto svg = VegaEngine().svg(attention_cost_figure(bench()).spec, figure_theme(false));
    CHECK(svg.find("faster than softmax from") != std::string::npos);
    CHECK(svg.find("memory / softmax") != std::string::npos);
  }
  auto without = bench();
  without["rows"].erase(without["rows"].begin(), without["rows"].begin() + 2);
  CHECK_THROWS_AS(attention_cost_figure(without), ConfigError);
}
