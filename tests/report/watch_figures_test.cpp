#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "report/figures.h"
#include "sample_sweep.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("watch figure: the run with most alarms, a panel a quantity, a line a layer; nothing where nobody watched") {
  ScratchFolder folder;
  sample::write(folder.path, {.variants = {"softmax"}, .depths = {1}, .one_diverged_one_failed = false});
  Sweep sweep = read_sweep(folder.path);
  Figures none;
  add_watch(sweep, none);
  CHECK(none.drawn.empty());
  CHECK(none.missing.empty());

  const Json watch = {{"steps", {10, 20}},
                      {"learning_rate", {0.1, 0.2}},
                      {"noise_scale", {{"steps", {20}}, {"windows", {7.5}}}},
                      {"layers",
                       {{"embedding", {{"gradient_norm", {1.5, 2.5}}}},
                        {"blocks.0", {{"gradient_norm", {3.0, 4.0}}, {"logit_max", {5.0, 6.0}}}}}}};
  for (Json& row : sweep.rows) row["watch"] = watch, row["alarms"] = Json::array();
  sweep.rows[1]["alarms"] = {{{"kind", "dead_units"}}};
  Figures figures;
  add_watch(sweep, figures);
  REQUIRE(figures.drawn.size() == 1);
  const auto& figure = figures.drawn[0];
  CHECK_THAT(figure.caption, ContainsSubstring(sweep.runs[1].id));
  CHECK(figure.spec["facet"]["sort"] ==
        Json({"gradient norm", "largest attention logit", "gradient noise scale, windows"}));
  const Json& rows = figure.spec["data"]["values"];
  CHECK(rows.size() == 2 + 2 + 2 + 1);
  CHECK(std::count_if(rows.begin(), rows.end(), [](const Json& row) {
          return row["layer"] == "blocks.0" && row["what"] == "gradient norm" && row["x"] == 20 && row["y"] == 4.0;
        }) == 1);
}
