#include "scaling/isoflop.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "scaling/derived.h"
#include "scaling/parametric.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

const Surface chinchilla;

PowerSum law_of(const Surface& surface) {
  return {.log_floor = std::log(surface.E),
          .terms = {{std::log(surface.A), surface.alpha}, {std::log(surface.B), surface.beta}}};
}

/// `count` sizes within a factor `width` of `shift` times the optimum of each budget, equal in ratio, without noise.
std::vector<Point> isoflop_runs(double width, int count, double shift = 1) {
  std::vector<Point> points;
  for (const double C : {1e17, 1e18, 1e19, 1e20, 1e21}) {
    const double centre = shift * compute_optimum(law_of(chinchilla), C).N;
    for (int i = 0; i < count; ++i) {
      Point point;
      point.N = centre * std::pow(width, 2.0 * i / (count - 1) - 1);
      point.D = C / 6 / point.N;
      point.L = chinchilla(point.N, point.D);
      points.push_back(point);
    }
  }
  return points;
}

IsoFlopFit fit_of(const std::vector<Point>& points, IsoFlopMethod method) {
  return fit_isoflop(budgets_of(points), method);
}

}  // namespace

TEST_CASE("isoflop: parabolas miss the optimal D by the published percentages though there is no noise") {
  // D at C = 1e24 off by -.33, -1.30, -2.90, -5.10 % for grids within 2x, 4x, 8x, 16x of the optimum, 15 sizes each.
  const double truth = compute_optimum(law_of(chinchilla), 1e24).D;
  const std::pair<double, double> published[] = {{2, -0.33}, {4, -1.30}, {8, -2.90}, {16, -5.10}};
  for (const auto& [width, percent] : published) {
    INFO("within " << width << "x");
    const auto fit = fit_of(isoflop_runs(width, 15), IsoFlopMethod::parabola);
    REQUIRE(fit.fitted);
    CHECK(fit.budgets.size() == 5);
    CHECK_THAT(100 * (fit.D.at(1e24) / truth - 1), WithinAbs(percent, 0.02));
    // The shape of the curve is the same at every budget, so that the exponent is right all the same.
    CHECK_THAT(fit.N.exponent, WithinRel(chinchilla.beta / (chinchilla.alpha + chinchilla.beta), 1e-6));
  }
}

TEST_CASE("isoflop: where parabolas are biased the parametric fit of the same runs has all five parameters to 1e-6") {
  for (const double width : {2.0, 4.0, 8.0, 16.0}) {
    INFO("within " << width << "x");
    const auto points = isoflop_runs(width, 15);
    const auto fit = fit_parametric(column(points, &Point::N), column(points, &Point::D), column(points, &Point::L));
    CHECK_THAT(fit.E, WithinRel(chinchilla.E, 1e-6));
    CHECK_THAT(fit.A, WithinRel(chinchilla.A, 1e-6));
    CHECK_THAT(fit.B, WithinRel(chinchilla.B, 1e-6));
    CHECK_THAT(fit.alpha, WithinRel(chinchilla.alpha, 1e-6));
    CHECK_THAT(fit.beta, WithinRel(chinchilla.beta, 1e-6));
  }
}

TEST_CASE("isoflop: Akima's interpolation finds the minimum closer than a parabola on a wide grid") {
  const double truth = compute_optimum(law_of(chinchilla), 1e24).D;
  const auto points = isoflop_runs(16, 15);
  const double parabola = std::abs(fit_of(points, IsoFlopMethod::parabola).D.at(1e24) / truth - 1);
  const double akima = std::abs(fit_of(points, IsoFlopMethod::akima).D.at(1e24) / truth - 1);
  CHECK(akima < 0.005);
  CHECK(parabola > 0.05);
}

TEST_CASE("isoflop: both methods find the vertex of a parabola where it is, by hand") {
  // Loss 2 + (ln N - 1)^2 at ln N = -1, 0, .5, 2, 3; D falls as N rises.
  std::vector<Point> runs;
  for (const double log_N : {-1.0, 0.0, 0.5, 2.0, 3.0}) {
    Point run;
    run.N = std::exp(log_N);
    run.D = 100 / run.N;
    run.C = 600;
    run.L = 2 + (log_N - 1) * (log_N - 1);
    runs.push_back(run);
  }
  const auto fit = fit_isoflop({runs}, IsoFlopMethod::parabola);
  CHECK_THAT(fit.budgets[0].N, WithinRel(std::exp(1.0), 1e-12));
  CHECK_THAT(fit.budgets[0].loss, WithinAbs(2, 1e-12));
  CHECK_THAT(fit.budgets[0].D, WithinRel(100 / std::exp(1.0), 1e-12));
  // Akima reproduces a parabola only at equal spacing; here it stays within a tenth of the width of its interval.
  CHECK_THAT(std::log(fit_isoflop({runs}, IsoFlopMethod::akima).budgets[0].N), WithinAbs(1, 0.15));
}

TEST_CASE(
    "isoflop: a minimum at the edge is left out and says which sizes to run; wide and off-centre grids are told") {
  const auto edge = fit_of(isoflop_runs(3, 7, 20), IsoFlopMethod::akima);
  CHECK_FALSE(edge.fitted);
  CHECK(edge.budgets[0].at_edge);
  CHECK_THAT(edge.budgets[0].flags.at(0).text, ContainsSubstring("run smaller sizes"));
  CHECK_THAT(fit_of(isoflop_runs(16, 9), IsoFlopMethod::parabola).budgets[0].flags.at(0).text,
             ContainsSubstring("span 256x"));
  CHECK_THAT(fit_of(isoflop_runs(4, 9, 2.5), IsoFlopMethod::akima).budgets[0].flags.at(0).text,
             ContainsSubstring("off centre") && ContainsSubstring("smaller"));
}

TEST_CASE("isoflop: budgets are runs of equal compute with four sizes; other tables have no report") {
  CHECK(budgets_of(isoflop_runs(4, 3)).empty());
  CHECK(isoflop_report(grid_points(chinchilla, {1e8, 2e8, 5e8}, {1e9, 3e9}, 1, [](int) { return 0.0; })).is_null());
  const auto report = isoflop_report(isoflop_runs(4, 9));
  CHECK(report["parabola"]["budgets"].size() == 5);
  CHECK(report["akima"]["N"]["exponent_interval"].size() == 2);
}
