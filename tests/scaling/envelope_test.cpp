#include "scaling/envelope.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "scaling/fit.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

/// Curves of a noise-free surface, 60 evaluations each.
std::vector<Point> surface_curves(const Surface& surface, int sizes) {
  std::vector<Point> points;
  for (int i = 0; i < sizes; ++i) {
    Point point;
    point.run = "run" + std::to_string(i);
    point.N = 1e7 * std::pow(1.35, i);
    for (int k = 0; k < 60; ++k) {
      const double D = 1e8 * std::pow(1.17, k);
      point.curve.push_back({.D = D, .C = 6 * point.N * D, .L = surface(point.N, D)});
    }
    point.D = point.curve.back().D;
    point.L = point.curve.back().L;
    points.push_back(point);
  }
  return points;
}

}  // namespace

TEST_CASE("envelope: smoothing leaves a straight line in ln C as it is, and takes two thirds of a lone spike") {
  LearningCurve line{.N = 1, .points = {}};
  for (int i = 0; i < 7; ++i) line.points.push_back({.D = 1, .C = std::pow(10.0, i), .L = 9.0 - i});
  for (int i = 0; i < 7; ++i) CHECK_THAT(smoothed(line).points[i].L, WithinAbs(9.0 - i, 1e-12));
  line.points[3].L += 0.3;
  CHECK_THAT(smoothed(line).points[3].L, WithinAbs(6.1, 1e-12));
  CHECK_THAT(smoothed(line).points[0].L, WithinAbs(9, 1e-12));  // ends stay
}

TEST_CASE("envelope: of a noise-free surface, the best size grows with the exponent that the law implies") {
  const Surface surface;
  const auto report = envelope_report(surface_curves(surface, 24), 1e-3);
  // Hoffmann et al., equation (4): N* = G (C/6)^a with a = beta / (alpha + beta), D* with 1 - a.
  const double a = surface.beta / (surface.alpha + surface.beta);
  // The best of sizes 1.35 apart errs by up to half a step (15 %) at each budget; over 2 decades that is .01 to .02.
  CHECK_THAT(report["N"]["exponent"].get<double>(), WithinAbs(a, 0.02));
  CHECK_THAT(report["D"]["exponent"].get<double>(), WithinAbs(1 - a, 0.02));
  // Along the optimum L = E + const C^-(alpha beta / (alpha + beta)).
  const double gamma = surface.alpha * surface.beta / (surface.alpha + surface.beta);
  CHECK_THAT(report["L"]["fitted"]["alpha"].get<double>(), WithinAbs(gamma, 0.01));
  CHECK_THAT(report["L"]["fitted"]["E"].get<double>(), WithinAbs(surface.E, 0.03));
  CHECK(report["L"]["gradient_norm"].get<double>() < 1e-8);
  CHECK(report["L"]["second_opinion"]["agrees"].get<bool>());
  const double G = std::pow(surface.alpha * surface.A / (surface.beta * surface.B), 1 / (surface.alpha + surface.beta));
  for (const auto& point : report["points"]) {
    const double best = G * std::pow(point["C"].get<double>() / 6, a);
    CHECK(std::abs(std::log(point["N"].get<double>() / best)) < 0.2);  // half of ln 1.35, and what interpolation adds
    CHECK_THAT(point["D"].get<double>(), WithinRel(point["C"].get<double>() / 6 / point["N"].get<double>(), 1e-9));
  }
}

TEST_CASE("envelope: sizes of which hardly one is ever best have no law, and the flag says what to add") {
  auto points = surface_curves({}, 3);
  const auto report = envelope_report(points, 1e-3);
  CHECK_FALSE(report.contains("N"));
  CHECK(report["flags"].dump().find("add sizes") != std::string::npos);
  points.pop_back();
  CHECK(envelope_report(points, 1e-3).is_null());
}

TEST_CASE("envelope: rows of one run are a learning curve too, and the report of a table has the envelope") {
  std::vector<Point> rows;
  for (const auto& point : surface_curves({}, 12))
    for (const auto& at : point.curve) {
      Point row;
      row.run = point.run;
      row.N = point.N;
      row.D = at.D;
      row.L = at.L;
      rows.push_back(row);
    }
  CHECK(curves_of(rows).size() == 12);
  const auto report = fit_report(rows, {.replicates = 0});
  CHECK(report["envelope"]["curves"] == 12);
  CHECK(fit_text(report).find("Envelope of 12 learning curves") != std::string::npos);
}
