#include <algorithm>
#include <set>

#include <catch2/catch_test_macros.hpp>

#include "report/figures.h"
#include "report/report.h"
#include "report/text.h"
#include "report/vega_engine.h"
#include "sample_sweep.h"

using namespace attnscale;

namespace {

std::set<std::string> drawn(const std::filesystem::path& folder) {
  std::set<std::string> ids;
  for (const Figure& figure : make_figures(read_sweep(folder)).drawn) ids.insert(figure.id);
  return ids;
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

/// Writes the report and checks what must hold for every input; returns the page.
std::string checked_report(const std::filesystem::path& folder) {
  const ReportFiles files = write_report(folder);
  const std::string page = read_file(files.html);
  CHECK(page.rfind("<!doctype html>", 0) == 0);
  CHECK(page.find("</html>") != std::string::npos);
  CHECK(count_of(page, "<script") == count_of(page, "</script"));
  CHECK(page.find(" src=\"http") == std::string::npos);
  CHECK(page.find("<link") == std::string::npos);
  const size_t figures = drawn(folder).size();
  CHECK(count_of(page, "data-figure=\"") == figures + 1);  // the script's selector names it once
  if (VegaEngine::available()) CHECK(files.svgs.size() == figures);
  return page;
}

}  // namespace

TEST_CASE("figures: every spec carries its data and compiles to an SVG with marks") {
  ScratchFolder folder;
  sample::write(folder.path, {.steps = {250, 1000, 4000}});
  const Sweep sweep = read_sweep(folder.path);
  const Figures figures = make_figures(sweep);
  CHECK(drawn(folder.path) == std::set<std::string>{"loss-parameters", "loss-flops", "loss-tokens", "excess-parameters",
                                                    "irreducible-loss", "variants", "loss-by-position", "depth-width",
                                                    "learning-curves"});
  for (const Figure& figure : figures.drawn) {
    INFO(figure.id);
    CHECK(figure.spec["data"]["values"].size() >= 2);
    CHECK_FALSE(figure.caption.empty());
  }
  // One mean per finished size: 2 variants x 3 depths x 3 widths x 3 lengths.
  const Json& values = figures.drawn.front().spec["data"]["values"];
  CHECK(std::count_if(values.begin(), values.end(), [](const Json& row) { return row["kind"] == "mean"; }) == 54);
  const auto first = std::find_if(values.begin(), values.end(), [](const Json& row) { return row["kind"] == "mean"; });
  CHECK((*first)["y"].get<double>() == sweep.cells.front().loss->mean);

  if (!VegaEngine::available()) SKIP(VegaEngine::why_not());
  VegaEngine engine;
  for (const Figure& figure : figures.drawn) {
    INFO(figure.id);
    const std::string svg = engine.svg(figure.spec, figure_theme(false));
    CHECK(svg.rfind("<svg", 0) == 0);
    CHECK(svg.find("nats per token") != std::string::npos);
    CHECK(svg.find("NaN") == std::string::npos);
    CHECK(count_of(svg, "<path") > 10);
    CHECK(svg.size() < 600000);
  }
}

TEST_CASE("figures: one narrow interval of the irreducible loss cuts no others, and one that says nothing is cut") {
  using Intervals = std::vector<std::pair<double, double>>;
  struct Case {
    Intervals intervals;
    double low, high;  ///< what is drawn reaches from here to there, and not much farther
    bool cut;
  };
  const Intervals telling = {{1.55, 1.67}, {1.56, 1.68}};
  for (const auto& [intervals, low, high, cut] :
       {Case{{telling[0], {1.6395, 1.6405}, telling[1], {0, 9}}, 1.55, 1.68, true},
        Case{{telling[0], {0, 9}}, 1.55, 1.67, true}, Case{{telling[0], {0, 9}, telling[1], {0, 9}}, 1.55, 1.68, true},
        Case{telling, 1.55, 1.68, false}, Case{{{1.64, 1.64}, {1.64, 1.64}, telling[0]}, 1.55, 1.67, false}}) {
    ScratchFolder folder;
    sample::write(folder.path, {});
    Sweep sweep = read_sweep(folder.path);
    sweep.laws.clear();
    for (const auto& interval : intervals) {
      Law law;
      law.series = "all";
      law.form = std::to_string(sweep.laws.size());
      law.irreducible = 1.64;
      law.intervals["E"] = interval;
      sweep.laws.push_back(law);
    }
    INFO(intervals.size() << " intervals, from " << intervals[0].first);
    const auto figures = make_figures(sweep).drawn;
    const auto figure =
        std::find_if(figures.begin(), figures.end(), [](const Figure& each) { return each.id == "irreducible-loss"; });
    REQUIRE(figure != figures.end());
    CHECK((figure->caption.find("are cut") != std::string::npos) == cut);
    const Json domain = figure->spec["layer"][1]["encoding"]["x"]["scale"]["domain"];
    CHECK(domain[0].get<double>() < low);
    CHECK(domain[0].get<double>() > low - 0.4);
    CHECK(domain[1].get<double>() > high);
    CHECK(domain[1].get<double>() < high + 0.4);
  }
}

TEST_CASE("figures: accuracy stands against the decode state, at each size the best of its training settings") {
  ScratchFolder folder;
  sample::Options options{.depths = {2}, .one_diverged_one_failed = false};
  auto rows = sample::rows(options);
  const auto add_tried_again = [&](double accuracy, const char* id) {  // of the first row, at another rate
    Json row = rows.front();
    row["id"] = id;
    row["accuracy"] = accuracy;
    row["config"]["train"]["learning_rate"] = 0.01;
    rows.push_back(row);
  };
  for (Json& row : rows) {
    row["truth"]["chance_accuracy"] = 0.125;
    row["state_bytes"] = 64 * row["config"]["model"]["model_dim"].get<int>();
    row["accuracy"] = 0.5 + 0.1 * row["seed"].get<int>();
  }
  const auto points = [&] {
    sample::write_rows(folder.path, rows);
    const auto figures = make_figures(read_sweep(folder.path));
    const auto found = std::find_if(figures.drawn.begin(), figures.drawn.end(),
                                    [](const Figure& figure) { return figure.id == "accuracy-state"; });
    REQUIRE(found != figures.drawn.end());
    return *found;
  };

  const Figure figure = points();
  const Json& values = figure.spec["data"]["values"];
  REQUIRE(values.size() == 6);  // 2 variants x 3 widths; seeds 1, 2, 3 make 0.6, 0.7, 0.8
  for (const Json& point : values) {
    CHECK(point["x"] == 64 * point["model_dim"].get<int>());
    CHECK(std::abs(point["y"].get<double>() - 0.7) < 1e-12);
    CHECK(point["low"] == 0.6);
  }
  CHECK(figure.caption.find("0.125") != std::string::npos);
  CHECK(figure.caption.find("best of the runs") == std::string::npos);

  const auto best_at_first_size = [&] {
    const Figure now = points();
    CHECK(now.spec["data"]["values"].size() == 6);
    CHECK(now.caption.find("best of the runs") != std::string::npos);
    double best = 0;
    for (const Json& point : now.spec["data"]["values"])
      if (point["variant"] == rows.front()["config"]["attention"]["variant"] && point["model_dim"] == 16)
        best = point["y"];
    return best;
  };
  add_tried_again(0.65, "worse");
  CHECK(std::abs(best_at_first_size() - 0.7) < 1e-12);
  rows.back()["accuracy"] = 0.95;
  CHECK(best_at_first_size() == 0.95);
  if (!VegaEngine::available()) SKIP(VegaEngine::why_not());
  const std::string svg = VegaEngine().svg(points().spec, figure_theme(false));
  CHECK(svg.find("decode state (bytes)") != std::string::npos);
  CHECK(svg.find("NaN") == std::string::npos);
}

TEST_CASE("figures: two tasks stay apart, and accuracy without questions or state is missing with its reason") {
  ScratchFolder folder;
  auto rows = sample::rows({.depths = {2}, .widths = {32}, .one_diverged_one_failed = false});
  const auto write_and_find = [&]() -> std::pair<Json, std::string> {
    sample::write_rows(folder.path, rows);
    const auto figures = make_figures(read_sweep(folder.path));
    for (const Figure& figure : figures.drawn)
      if (figure.id == "accuracy-state") return {figure.spec["data"]["values"], ""};
    for (const MissingFigure& figure : figures.missing)
      if (figure.id == "accuracy-state") return {Json::array(), figure.reason};
    return {Json::array(), "not mentioned"};
  };
  CHECK(write_and_find().second.find("asks questions") != std::string::npos);
  for (Json& row : rows) row["accuracy"] = 0.5, row["truth"]["chance_accuracy"] = 0.125;
  CHECK(write_and_find().second.find("state_bytes") != std::string::npos);
  for (Json& row : rows) {
    row["state_bytes"] = 4096;
    if (row["seed"] == 1) row["config"]["data"]["num_pairs"] = 8;
    else row["config"]["data"]["num_pairs"] = 4;
  }
  const Json points = write_and_find().first;
  std::set<std::string> tasks;
  for (const Json& point : points) tasks.insert(point["task"].get<std::string>());
  CHECK(points.size() == 4);  // 2 variants x 2 tasks
  CHECK(tasks == std::set<std::string>{"num_pairs=4", "num_pairs=8"});
}

TEST_CASE("engine: a spec that cannot be drawn is an error with the reason, and the next one still works") {
  if (!VegaEngine::available()) SKIP(VegaEngine::why_not());
  VegaEngine engine;
  CHECK_THROWS_AS(engine.svg({{"mark", "no such mark"}}, Json::object()), NumericsError);
  const Json good = {{"data", {{"values", Json::array({{{"a", 1}}})}}},
                     {"mark", "point"},
                     {"encoding", {{"x", {{"field", "a"}, {"type", "quantitative"}}}}}};
  CHECK(engine.svg(good, Json::object()).rfind("<svg", 0) == 0);
}

TEST_CASE("report: a whole sweep gives one page under 4 MB with its trouble named") {
  ScratchFolder folder;
  sample::write(folder.path, {});
  const std::string page = checked_report(folder.path);
  CHECK(page.size() < 4000000);
  CHECK(page.find("at step 137") != std::string::npos);
  CHECK(page.find("out of memory: asked for 3 GiB") != std::string::npos);
  CHECK(page.find("Redistribution and use in source and binary forms") != std::string::npos);
  CHECK(count_of(page, "<code>") == 54 + 2);  // a row per run, and the two that did not finish once more
}

TEST_CASE("report: names with markup, escapes and newlines stay text everywhere") {
  ScratchFolder folder;
  const std::string evil = "</script><script>alert(1)</script>\x1b[31m\n";
  sample::Options options{.variants = {"softmax", evil}};
  sample::write(folder.path, options);
  auto rows = sample::rows(options);
  rows.front()["message"] = evil;
  rows.front()["provenance"]["host"] = evil;
  sample::write_rows(folder.path, rows);
  write_file_atomically(folder.path / "spec.json", Json{{"name", evil}, {"description", evil}}.dump());
  const std::string page = checked_report(folder.path);
  CHECK(page.find("<script>alert") == std::string::npos);
  CHECK(page.find('\x1b') == std::string::npos);
  CHECK(count_of(page, "</script>") == 6);  // the page's own: class, data, three of Vega, behaviour
}

TEST_CASE("report: each doubt of the fits stands there once, and notes do not") {
  ScratchFolder folder;
  sample::write(folder.path, {});
  const std::string page = checked_report(folder.path);
  CHECK(count_of(page, "B and beta rest on few token counts") == 1);
  CHECK(count_of(page, "<b>all L(N,D), softmax L(N,D)</b>") == 1);
  CHECK(count_of(page, "only a note") == 0);
}

TEST_CASE("report: sparse sweeps draw what they can and say what they cannot") {
  ScratchFolder folder;
  SECTION("one run, no fits, no truth") {
    sample::write(folder.path, {.variants = {"softmax"},
                                .depths = {2},
                                .widths = {32},
                                .seeds = {1},
                                .truth = false,
                                .fits = false,
                                .one_diverged_one_failed = false});
    const std::string page = checked_report(folder.path);
    CHECK(page.find("1 run of 1 attention variant") != std::string::npos);
    CHECK(drawn(folder.path) ==
          std::set<std::string>{"loss-parameters", "loss-flops", "loss-by-position", "learning-curves"});
  }
  SECTION("all runs diverged") {
    auto rows = sample::rows({});
    for (Json& row : rows) {
      sample::spoil(row, "diverged");
      row.erase("curve");
    }
    sample::write_rows(folder.path, rows);
    const std::string page = checked_report(folder.path);
    CHECK(page.find("No run finished, so there is no loss to report") != std::string::npos);
    CHECK(drawn(folder.path).empty());
  }
  SECTION("one variant, no truth") {
    sample::write(folder.path, {.variants = {"softmax"}, .truth = false});
    const std::string page = checked_report(folder.path);
    // The fits of all runs are those of the variant: once is enough.
    CHECK(page.find("softmax  L(N") != std::string::npos);
    CHECK(page.find("all  L(N") == std::string::npos);
    CHECK(drawn(folder.path) == std::set<std::string>{"loss-parameters", "loss-flops", "loss-by-position",
                                                      "irreducible-loss", "depth-width", "learning-curves"});
  }
  SECTION("several variants at one size") {
    sample::write(folder.path, {.depths = {2}, .widths = {32}});
    checked_report(folder.path);
    CHECK(drawn(folder.path).count("variants") == 1);
  }
  SECTION("a figure that is no longer drawn leaves no file behind") {
    sample::write(folder.path, {});
    write_report(folder.path);
    sample::write(folder.path, {.depths = {2}, .widths = {32}});
    checked_report(folder.path);
    CHECK_FALSE(std::filesystem::exists(folder.path / "figures" / "depth-width.svg"));
  }
}

TEST_CASE("report: a torn last line is left out and said, a broken line inside is refused by number") {
  ScratchFolder folder;
  sample::write(folder.path, {});
  const std::string whole = read_file(folder.path / "results.jsonl");
  write_file_atomically(folder.path / "results.jsonl", whole.substr(0, whole.size() - 40));
  const Sweep sweep = read_sweep(folder.path);
  CHECK(sweep.rows.size() == 53);
  REQUIRE(sweep.notes.size() == 1);
  CHECK(sweep.notes.front().find("Line 54") != std::string::npos);
  write_file_atomically(folder.path / "results.jsonl", "{\"id\": }\n" + whole);
  CHECK_THROWS_AS(read_sweep(folder.path), DataError);
  std::filesystem::remove(folder.path / "results.jsonl");
  CHECK_THROWS_AS(write_report(folder.path), DataError);
}

TEST_CASE("report: a flagged run is shown as flagged and is in no mean, and a law that is none is not quoted") {
  ScratchFolder folder;
  sample::Options options{.variants = {"softmax"}, .one_diverged_one_failed = false};
  auto rows = sample::rows(options);
  rows[0]["flags"] = {"finite divergence"};
  rows[0]["loss"] = 77.0;
  sample::write_rows(folder.path, rows);
  auto scaling = sample::scaling(options);
  for (const char* form : {"L(N)", "L(N,D)"})
    for (const char* series : {"all", "softmax"}) scaling["fits"][series]["forms"][form]["no_law"] = "the loss rises";
  write_file_atomically(folder.path / "scaling.json", scaling.dump());
  const Sweep sweep = read_sweep(folder.path);
  CHECK(sweep.cells.front().trouble == "1 flagged");
  CHECK(sweep.cells.front().loss->count == 2);
  CHECK(sweep.cells.front().loss->high < 10);
  const std::string page = checked_report(folder.path);
  CHECK(page.find("flagged: finite divergence") != std::string::npos);
  CHECK(page.find("1 run is flagged and left out") != std::string::npos);
  CHECK(page.find("The fitted irreducible loss") == std::string::npos);
  CHECK(results_table(folder.path).find("1 flagged") != std::string::npos);
}

TEST_CASE("report: the verdict on the truth is that of the raw fit, and the paired one is named") {
  ScratchFolder folder;
  sample::write(folder.path, {.variants = {"softmax"}});
  auto scaling = sample::scaling({.variants = {"softmax"}});
  auto paired = scaling["fits"]["all"];
  scaling["fits"]["all"]["forms"]["L(N)"]["intervals"]["E"] = {1.74, 1.79};
  paired["forms"]["L(N)"]["E"] = 1.701;
  scaling["fits"]["all"]["paired"] = {{"forms", paired["forms"]}};
  write_file_atomically(folder.path / "scaling.json", scaling.dump());
  const std::string page = checked_report(folder.path);
  CHECK(page.find("which the interval does not cover. The sharper fit of the paired excess gives 1.7010") !=
        std::string::npos);
  CHECK(page.find("L(N), paired") != std::string::npos);
}
