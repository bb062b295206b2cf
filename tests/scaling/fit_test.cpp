#include "scaling/fit.h"

#include <functional>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "support.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinRel;

namespace {

const Surface surface{.E = 1.7, .A = 12.6, .B = 400, .alpha = 0.5, .beta = 0.6};
constexpr auto no_noise = [](int) { return 0.0; };
const FitReportOptions quick{.replicates = 60};

std::string all_flags(const Json& of) {
  std::string text;
  for (const auto& flag : of["flags"]) text += flag["text"].get<std::string>() + "\n";
  return text;
}

void check_no_null(const Json& value) {
  CHECK_FALSE(value.is_null());
  if (value.is_structured())
    for (const auto& each : value) check_no_null(each);
}

std::vector<Point> noisy(double noise) {
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal(0, noise);
  return grid_points(surface, {1e3, 4e3, 1.6e4, 6.4e4}, {1e5, 4e5, 1.6e6}, 3, [&](int) { return normal(random); });
}

}  // namespace

TEST_CASE("fit_report: a sweep gives three forms with intervals, and the truth beside E") {
  auto options = quick;
  options.true_bayes_loss = 1.7;
  const auto report = fit_report(noisy(0.002), options);
  CHECK(report["n_points"] == 36);
  CHECK(report["n_runs"] == 36);
  CHECK(report["n_cells"] == 12);
  const auto& form = report["forms"]["L(N,D)"];
  for (const char* name : {"E", "A", "B", "alpha", "beta"}) {
    INFO(name);
    const double low = form["intervals"][name][0], high = form["intervals"][name][1], value = form[name];
    CHECK(low < value);
    CHECK(value < high);
  }
  CHECK(form["gradient_norm"].get<double>() < 1e-8);
  CHECK(form["truth"]["bayes_loss"] == 1.7);
  CHECK(form["truth"]["covered"] == true);
  CHECK(form["lack_of_fit"]["p"].get<double>() > 0.01);
  CHECK(report["forms"]["L(N)"]["n_points"] == 12);
  CHECK(report["forms"]["L(D)"]["n_points"] == 9);
  CHECK_THAT(all_flags(report["forms"]["L(N)"]), ContainsSubstring("expect it above the true"));
  check_no_null(report);
  CHECK_THAT(fit_text(report),
             ContainsSubstring("irreducible loss: fitted 1.") && ContainsSubstring("/ true 1.7 (covered)"));
}

TEST_CASE("fit_report: text and verdict have one interval of E, which does not fall below 0") {
  auto options = quick;
  options.true_bayes_loss = 1.7;
  options.validation_error = 1;  // more than E itself
  const auto report = fit_report(noisy(0.002), options);
  const auto& form = report["forms"]["L(N,D)"];
  const double low = form["truth"]["interval"][0], high = form["truth"]["interval"][1];
  CHECK(low == 0);
  CHECK(high > 3);
  const auto judged = fmt::format("{:.5g} [0, {:.4g}]", form["E"].get<double>(), high);
  CHECK_THAT(fit_text(report), ContainsSubstring("  E      " + judged) &&
                                   ContainsSubstring("irreducible loss: fitted " + judged + " / true 1.7 (covered)"));
}

TEST_CASE("fit_report: intervals of the laws that are compared hold the laws' own values") {
  // A floor that the laws without one do not have: what robust fits make of that is outside least squares' intervals.
  std::mt19937_64 random(2);
  std::normal_distribution<double> normal(0, 0.002);
  std::vector<Point> runs;
  for (const double N : {1470.0, 3320.0, 8180.0, 22500.0})
    for (const double D : {64e3, 128e3, 256e3, 512e3})
      for (int64_t seed = 0; seed < 2; ++seed) {
        const double L = 1.64 + 0.16 * std::pow(1470 / N, 2.2) + 0.12 * std::pow(64e3 / D, 2.6);
        runs.push_back({.N = N, .D = D, .L = L * (1 + normal(random) * 64e3 / D), .seed = seed});
      }
  const auto report = fit_report(runs, quick);
  int checked = 0;
  for (const auto& law : report["laws"]) {
    if (!law.contains("intervals")) continue;
    for (const auto& [name, interval] : law["intervals"].items()) {
      CAPTURE(law["law"].get<std::string>(), name);
      const double value = law["fitted"][name];
      CHECK(interval[0].get<double>() <= value * (1 + 1e-9));
      CHECK(value * (1 - 1e-9) <= interval[1].get<double>());
      ++checked;
    }
  }
  CHECK(checked > 3);
}

TEST_CASE("fit_report: a truth outside the interval is reported as not covered") {
  auto options = quick;
  options.true_bayes_loss = 1.5;
  const auto report = fit_report(noisy(0.002), options);
  CHECK(report["forms"]["L(N,D)"]["truth"]["covered"] == false);
  CHECK_THAT(fit_text(report), ContainsSubstring("(NOT covered)"));
}

TEST_CASE("fit_report: the same options give the same document, byte for byte") {
  const auto points = noisy(0.002);
  CHECK(fit_report(points, quick).dump() == fit_report(points, quick).dump());
}

TEST_CASE("fit_report: E fixed leaves E and its interval out of the fit") {
  auto options = quick;
  options.fixed_E = 1.7;
  const auto report = fit_report(noisy(0.002), options);
  const auto& form = report["forms"]["L(N,D)"];
  CHECK_THAT(form["E"].get<double>(), WithinRel(1.7, 1e-15));
  CHECK(form["E_fixed"] == true);
  CHECK_FALSE(form["intervals"].contains("E"));
  CHECK(form["intervals"].contains("beta"));
}

TEST_CASE("fit_report: diverged points are named, not silently dropped") {
  auto points = noisy(0.002);
  points[5].status = "diverged";
  points[5].run = "bad-run";
  const auto report = fit_report(points, quick);
  CHECK(report["n_points"] == 35);
  CHECK_THAT(all_flags(report), ContainsSubstring("1 of 36 points did not finish") &&
                                    ContainsSubstring("bad-run diverged (N = 1000, D = 400000, seed 2)"));
}

TEST_CASE("fit_report: what cannot be identified gets no number but the reason and what to run") {
  const auto report_of = [](std::vector<Point> points) { return fit_report(points, quick); };
  SECTION("one point") {
    const auto report = report_of(grid_points(surface, {1e3}, {1e5}, 1, no_noise));
    CHECK(report["forms"].empty());
    CHECK_THAT(all_flags(report), ContainsSubstring("all points have the same N (1000)"));
  }
  SECTION("all N equal") {
    const auto report = report_of(grid_points(surface, {1e3}, {1e5, 2e5, 1e6, 5e6}, 2, no_noise));
    CHECK_FALSE(report["forms"].contains("L(N,D)"));
    CHECK_FALSE(report["forms"].contains("L(N)"));
    CHECK(report["forms"].contains("L(D)"));
    CHECK_THAT(all_flags(report), ContainsSubstring("L(N,D) is not fitted: all points have the same N") &&
                                      ContainsSubstring("add depths or widths"));
  }
  SECTION("sizes that differ by less than 1 % are one size") {
    const auto report = report_of(grid_points(surface, {1000, 1003, 1006, 1009}, {1e5, 1e6}, 1, no_noise));
    CHECK(report["forms"].empty());
  }
  SECTION("no run is done") {
    auto points = grid_points(surface, {1e3}, {1e5}, 1, no_noise);
    points[0].status = "failed";
    const auto report = report_of(points);
    CHECK(report["forms"].empty());
    CHECK_THAT(all_flags(report), ContainsSubstring("no run is done"));
  }
}

TEST_CASE("fit_report: a doubtful fit carries its doubt in words") {
  const auto flags_of = [](const std::vector<Point>& points, const char* form) {
    const auto report = fit_report(points, quick);
    check_no_null(report);
    REQUIRE(report["forms"].contains(form));
    return all_flags(report["forms"][form]);
  };
  SECTION("short spans") {
    CHECK_THAT(flags_of(grid_points(surface, {1e3, 1.5e3, 2e3, 3e3}, {1e5, 1.5e5, 2e5}, 2, no_noise), "L(N,D)"),
               ContainsSubstring("N spans only 3x") && ContainsSubstring("D spans only 2x"));
  }
  SECTION("N and D in step") {
    std::vector<Point> points;
    for (const double N : {1e3, 2e3, 4e3, 8e3, 1.6e4, 3.2e4, 6.4e4, 1.28e5})
      for (const auto& point : grid_points(surface, {N}, {20 * N}, 1, no_noise)) points.push_back(point);
    CHECK_THAT(flags_of(points, "L(N,D)"), ContainsSubstring("N and D move together"));
    CHECK_THAT(flags_of(points, "L(N)"), ContainsSubstring("differ in D too"));
  }
  SECTION("no floor in sight: a pure power law") {
    const Surface bare{.E = 0, .A = 30, .B = 300, .alpha = 0.2, .beta = 0.3};
    CHECK_THAT(flags_of(grid_points(bare, {1e3, 1e4, 1e5, 1e6}, {1e5, 1e6, 1e7}, 1, no_noise), "L(N,D)"),
               ContainsSubstring("no floor"));
  }
  SECTION("a loss that does not depend on N, or not on D") {
    const Surface flat{.E = 1.7, .A = 0, .B = 400, .alpha = 0.5, .beta = 0.6};
    const auto flags = flags_of(grid_points(flat, {1e3, 1e4, 1e5}, {1e5, 1e6, 1e7}, 1, no_noise), "L(N,D)");
    CHECK_THAT(flags, ContainsSubstring("does not depend on N") || ContainsSubstring("does not fall with N"));
  }
  SECTION("two variants in one table") {
    auto points = noisy(0.002);
    for (size_t i = 0; i < points.size(); ++i) points[i].variant = i % 2 ? "linear" : "softmax";
    CHECK_THAT(flags_of(points, "L(N,D)"), ContainsSubstring("mixes 2 variants (linear, softmax)"));
  }
  SECTION("cells that miss the law by far more than their seeds scatter") {
    auto points = noisy(0.0005);
    for (size_t i = 0; i < points.size(); ++i)
      if ((i / 3) % 2) points[i].L += 0.02;
    CHECK_THAT(flags_of(points, "L(N,D)"), ContainsSubstring("lack of fit"));
  }
}

TEST_CASE("fit_report: a loss that rises, or is the same everywhere, is said in words and gets no interval") {
  const auto check_no_law = [](const std::vector<Point>& points, const char* words) {
    const auto report = fit_report(points, quick);
    check_no_null(report);
    REQUIRE(report["forms"].contains("L(N)"));
    const auto& form = report["forms"]["L(N)"];
    INFO(form.dump(1));
    CHECK_THAT(form["no_law"].get<std::string>(), ContainsSubstring(words));
    CHECK_THAT(form["flags"][0]["text"].get<std::string>(), ContainsSubstring(words));
    CHECK_FALSE(form.contains("intervals"));
    CHECK_THAT(fit_text(report), !ContainsSubstring("irreducible loss: fitted"));
  };
  const std::vector<double> sizes = {1e3, 2e3, 4e3, 8e3, 1.6e4, 3.2e4};
  auto points = grid_points(surface, sizes, {1e5}, 3, no_noise);
  SECTION("rising") {
    for (auto& point : points) point.L = 1.5 + 0.05 * std::log(point.N) + 0.001 * static_cast<double>(point.seed);
    check_no_law(points, "THE LOSS RISES WITH N");
  }
  SECTION("constant") {
    for (auto& point : points) point.L = 1.7;
    check_no_law(points, "THE LOSS IS CONSTANT in N");
  }
  SECTION("constant but for the seeds") {
    std::mt19937_64 random(3);
    std::normal_distribution<double> normal(1.7, 0.004);
    for (auto& point : points) point.L = normal(random);
    check_no_law(points, "NOT SHOWN TO FALL WITH N");
  }
}

TEST_CASE("fit_report: a loss that rises again at the largest sizes is told, with what to do") {
  auto points = grid_points(surface, {1e3, 2e3, 4e3, 8e3, 1.6e4, 3.2e4}, {1e5}, 2, no_noise);
  for (auto& point : points)
    if (point.N > 3e4) point.L += 0.1;
  CHECK_THAT(all_flags(fit_report(points, quick)["forms"]["L(N)"]), ContainsSubstring("rises again beyond N = 16000"));
}

TEST_CASE("fit_report: a fixed E that a run has reached is refused with the run and the value") {
  auto points = noisy(0.002);
  points[3].place = "table.csv:5";
  points[3].L = 1.69;
  auto options = quick;
  for (const double E : {1.69, 1.8}) {
    options.fixed_E = E;
    CHECK_THROWS_WITH(fit_report(points, options),
                      ContainsSubstring("is not below the lowest loss 1.69 (table.csv:5)"));
  }
}

TEST_CASE("fit_report: points with flags are left out, counted by reason, and kept on request") {
  auto points = noisy(0.002);
  points[0].flags = {"finite divergence"};
  points[7].flags = {"finite divergence"};
  points[0].L = 40;
  const auto report = fit_report(points, quick);
  CHECK(report["n_points"] == 34);
  CHECK_THAT(all_flags(report), ContainsSubstring("2 of 36 points carry flags (finite divergence: 2)") &&
                                    ContainsSubstring("--keep-flagged"));
  auto keeping = quick;
  keeping.keep_flagged = true;
  CHECK(fit_report(points, keeping)["n_points"] == 36);
}

TEST_CASE("fit_report: the verdict on E is that of the raw loss, with the paired fit beside it") {
  auto points = noisy(0.002);
  for (auto& point : points) {
    point.paired_L = point.L;
    point.L += 0.03;  // what these validation tokens are above the source
  }
  auto options = quick;
  options.true_bayes_loss = 1.7;
  const auto report = fit_report(points, options);
  const auto& truth = report["forms"]["L(N,D)"]["truth"];
  CHECK(truth["covered"] == false);
  CHECK(truth["paired"]["covered"] == true);
  CHECK(report["paired"]["forms"]["L(N,D)"]["E"] == truth["paired"]["E"]);
  CHECK_THAT(fit_text(report),
             ContainsSubstring("(NOT covered); sharper, from the paired excess: 1.") && ContainsSubstring("(covered)"));
  // Where the error of the validation tokens is recorded, the interval of the source's E holds it.
  options.validation_error = 0.03;
  const auto wider = fit_report(points, options)["forms"]["L(N,D)"]["truth"];
  CHECK(wider["covered"] == true);
  const double low = wider["interval"][0], narrow = truth["interval"][0], E = report["forms"]["L(N,D)"]["E"];
  CHECK_THAT(E - low, WithinRel(std::hypot(E - narrow, 1.959963984540054 * 0.03), 1e-12));
  CHECK(wider["paired"]["interval"] == truth["paired"]["interval"]);
}

TEST_CASE(
    "fit_report: an optimum has its condition number and a second opinion, and the text shows all that was found") {
  const auto report = fit_report(noisy(0.002), quick);
  for (const char* name : {"L(N,D)", "L(N)", "L(C)"}) {
    INFO(name);
    const auto& form = report["forms"][name];
    CHECK(form["condition_number"].get<double>() > 1);
    CHECK(form["second_opinion"]["agrees"] == true);
    CHECK_THAT(form["second_opinion"]["objective"].get<double>(),
               Catch::Matchers::WithinAbs(form["objective"].get<double>(), 1e-9));
  }
  // Two ways to an interval that share nothing but the points overlap.
  const auto& both = report["forms"]["L(N,D)"];
  for (const char* name : {"E", "alpha", "beta"}) {
    CHECK(both["bootstrap_intervals"][name][0].get<double>() < both["intervals"][name][1].get<double>());
    CHECK(both["bootstrap_intervals"][name][1].get<double>() > both["intervals"][name][0].get<double>());
  }
  const auto text = fit_text(report);
  CHECK_THAT(text, ContainsSubstring("variable projection agrees") && ContainsSubstring("best for C = ") &&
                       ContainsSubstring("tokens per parameter") && ContainsSubstring("Laws compared"));
  // Budgets that share their compute: 5 sizes at each of 3.
  std::vector<Point> points;
  for (const double C : {1e10, 1e11, 1e12})
    for (const auto& point : grid_points(surface, {1e3, 3e3, 1e4, 3e4, 1e5}, {1}, 1, no_noise)) {
      points.push_back(point);
      points.back().D = C / 6 / point.N;
      points.back().L = surface(point.N, points.back().D);
    }
  CHECK_THAT(fit_text(fit_report(points, quick)), ContainsSubstring("IsoFLOP: best size of each budget") &&
                                                      ContainsSubstring("parabola  N = ") &&
                                                      ContainsSubstring("akima     N = "));
}
