#include "report/drawing.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "report/vega_engine.h"
#include "sample_sweep.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

Figure drawn(const Drawing& drawing) {
  const ScratchFolder folder;
  write_file_atomically(
      folder.path / "results.jsonl",
      R"({"id":"a","loss":1,"config":{"model":{"depth":2,"norm":"x"}},"positions":{"last":[4,8],"loss":[3,2]}}
{"id":"b","loss":3,"config":{"model":{"depth":2,"norm":"x"}},"positions":{"last":[4,8],"loss":[5,2]}}
{"id":"c","loss":7,"config":{"model":{"depth":10,"norm":"y"}}}
{"id":"d","status":"diverged","config":{"model":{"depth":10,"norm":"y"}}}
)");
  return drawing_of(RunTable::read(folder.path), drawing);
}

const Json& values(const Figure& figure) { return figure.spec["data"]["values"]; }

}  // namespace

TEST_CASE(
    "drawing: a point is the mean over runs that agree, its bar the range; runs without the number are left out") {
  const auto figure = drawn({.y = "loss", .x = "depth", .by = "norm"});
  REQUIRE(values(figure).size() == 2);
  CHECK(values(figure)[0] ==
        Json({{"panel", "none"}, {"curve", "x"}, {"x", 2.0}, {"y", 2.0}, {"low", 1.0}, {"high", 3.0}}));
  CHECK(values(figure)[1]["y"] == 7.0);
  CHECK(figure.spec["layer"].size() == 3);
  CHECK(figure.spec["layer"][0]["encoding"]["x"]["axis"]["title"] == "depth");
  CHECK(figure.spec["title"]["text"] == "1 of 4 runs have no loss and are left out: 1 diverged");
  CHECK_FALSE(drawn({.y = "loss", .x = "depth", .where = "norm == 'x'"}).spec.contains("title"));
  const auto titled = drawn({.y = "loss", .x = "depth", .x_title = "blocks"});
  CHECK(titled.spec["layer"][0]["encoding"]["x"]["axis"]["title"] == "blocks");
}

TEST_CASE("drawing: of a list every item is a point, at the other list's or at its place") {
  CHECK(values(drawn({.y = "positions.loss"}))[1]["x"] == 2.0);
  const auto figure = drawn({.y = "positions.loss", .x = "positions.last", .panel = "depth"});
  REQUIRE(values(figure).size() == 2);
  CHECK(values(figure)[0] ==
        Json({{"panel", "2"}, {"curve", "none"}, {"x", 4.0}, {"y", 4.0}, {"low", 3.0}, {"high", 5.0}}));
  CHECK(figure.spec["facet"]["sort"] == Json({"2"}));
}

TEST_CASE("drawing: what cannot be drawn is named by its part") {
  const auto refused = [](const Drawing& drawing, const std::string& message) {
    CHECK_THROWS_WITH(drawn(drawing), ContainsSubstring(message));
  };
  refused({.y = "norm", .x = "depth"}, "--y: is the text \"x\"; expected a number");
  refused({.y = "loss"}, "--x: is missing");
  refused({.y = "loss", .x = "dpth"}, "unknown column dpth; did you mean \"depth\"?");
  refused({.y = "loss", .x = "depth", .where = "depth > 99"}, "nothing to draw");
  refused({.y = "loss - 1", .x = "depth", .log_y = true}, "0 is not above 0");
  refused({.y = "positions.loss", .x = "depth"},
          "--x: is the number 2, and y is a list of 2; expected a list of as many");
  refused({.y = "positions.loss", .x = "part(positions.last, 0, 1)"}, "a list of 1, and y one of 2");
}

TEST_CASE("drawing: an axis from 1 to 10 says 10, not 1e+1") {
  if (!VegaEngine::available()) SKIP(VegaEngine::why_not());
  const ScratchFolder folder;
  write_file_atomically(folder.path / "results.jsonl",
                        R"({"id":"a","config":{},"positions":{"loss":[9,8,7,6,5,4,3,2,1,0.5]}})"
                        "\n");
  const auto figure = drawing_of(RunTable::read(folder.path), {.y = "positions.loss"});
  const auto svg = VegaEngine().svg(figure.spec, figure_theme(false));
  CHECK_THAT(svg, ContainsSubstring(">10<") && !ContainsSubstring("1e+"));
}

TEST_CASE("drawing: curves by a number have as many shades as there are numbers, by a name the theme's hues") {
  const auto scale = [](const std::string& by) {
    return drawn({.y = "loss", .x = "depth", .by = by}).spec["layer"][0]["encoding"]["color"]["scale"];
  };
  CHECK(scale("depth")["scheme"]["name"] == "plasma");  // a ramp of four hues would begin again at the fifth
  CHECK_FALSE(scale("norm").contains("scheme"));
}
