#include "scaling/parametric.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "core/error.h"
#include "scaling/variable_projection.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

ParametricFit fit(const std::vector<Point>& points, const FitOptions& options = {}) {
  return fit_parametric(column(points, &Point::N), column(points, &Point::D), column(points, &Point::L), options);
}

constexpr auto exact_noise = [](int) { return 0.0; };

double objective_at(const std::vector<Point>& points, double ln_E, double ln_A, double alpha, double ln_B,
                    double beta) {
  // The paper's equation, point by point, with nothing of the library in it.
  double sum = 0;
  for (const auto& point : points) {
    const double a = ln_A - alpha * std::log(point.N), b = ln_B - beta * std::log(point.D);
    const double top = std::max({a, b, ln_E});
    const double r = top + std::log(std::exp(a - top) + std::exp(b - top) + std::exp(ln_E - top)) - std::log(point.L);
    sum += std::abs(r) <= 1e-3 ? r * r / 2 : 1e-3 * (std::abs(r) - 5e-4);
  }
  return sum;
}

struct Published {
  const char* file;
  double alpha, beta, ln_E;
};

}  // namespace

TEST_CASE("parametric: recovers all five parameters of a noise-free surface to 1e-6") {
  const Surface truth;
  const auto points = grid_points(truth, {1e8, 4e8, 1e9, 5e9, 2e10}, {1e9, 1e10, 5e10, 4e11}, 1, exact_noise);
  const auto found = fit(points);
  CHECK(found.objective < 1e-20);
  CHECK(found.gradient_norm < 1e-8);
  CHECK_THAT(found.E, WithinRel(truth.E, 1e-6));
  CHECK_THAT(found.A, WithinRel(truth.A, 1e-6));
  CHECK_THAT(found.B, WithinRel(truth.B, 1e-6));
  CHECK_THAT(found.alpha, WithinRel(truth.alpha, 1e-6));
  CHECK_THAT(found.beta, WithinRel(truth.beta, 1e-6));
}

TEST_CASE("parametric: recovers the surface of a toy sweep, where the sizes are thousands") {
  const Surface truth{.E = 1.728, .A = 30, .B = 900, .alpha = 0.6, .beta = 0.7};
  const auto found = fit(grid_points(truth, {1e3, 4e3, 1.6e4, 6.4e4}, {2.5e5, 1e6, 4e6}, 3, exact_noise));
  CHECK_THAT(found.E, WithinRel(truth.E, 1e-6));
  CHECK_THAT(found.alpha, WithinRel(truth.alpha, 1e-6));
  CHECK_THAT(found.beta, WithinRel(truth.beta, 1e-6));
}

TEST_CASE("parametric: one bad point in twenty does not move the fit by more than its Huber weight allows") {
  const Surface truth;
  auto points = grid_points(truth, {1e8, 4e8, 1e9, 5e9, 2e10}, {1e9, 1e10, 5e10, 4e11}, 1, exact_noise);
  points[7].L *= 1.5;
  // All other residuals can stay 0, and do: an absolute loss ignores a single outlier.
  const auto found = fit(points);
  CHECK_THAT(found.E, WithinRel(truth.E, 1e-2));
  CHECK_THAT(found.alpha, WithinRel(truth.alpha, 2e-2));
}

TEST_CASE("parametric: a fixed E is kept, and the other four are recovered") {
  const Surface truth;
  const auto points = grid_points(truth, {1e8, 4e8, 1e9, 5e9, 2e10}, {1e9, 1e10, 5e10, 4e11}, 1, exact_noise);
  const auto found = fit(points, {.fixed_E = truth.E});
  CHECK(found.E == truth.E);
  CHECK(found.starts == 900);
  CHECK_THAT(found.alpha, WithinRel(truth.alpha, 1e-6));
  CHECK_THAT(found.B, WithinRel(truth.B, 1e-6));
  // A wrong E cannot fit: the objective must say so.
  CHECK(fit(points, {.fixed_E = 1.5}).objective > 1e-5);
  CHECK_THAT(fit(points, {.fixed_E = 0.0}).E, WithinAbs(0, 0));
}

TEST_CASE("parametric: there are 4,500 different starts, 900 with E fixed") {
  CHECK(parametric_starts(true).size() == 4500);
  CHECK(parametric_starts(false).size() == 900);
}

TEST_CASE("parametric: reproduces the published Gemstones fits, the objective first") {
  // alpha, beta, ln E as published to four digits: tolerance half a unit of the last one.
  for (const auto& published :
       {Published{"hot.jsonl", 0.2929, 0.7130, 0.7623}, Published{"hot_100b.jsonl", 0.2592, 0.5973, 0.6683}}) {
    const auto file = gemstones(published.file);
    if (!std::filesystem::exists(file)) SKIP("needs the Gemstones table " << file << " (set ATTNSCALE_SHARED)");
    const auto points =
        read_points(file, ColumnMap::parse("N=params_active_precise,D=tokens,L=final_loss,run=run_name"));
    const auto found = fit(points);
    INFO(published.file);
    // Not above the objective at the published parameters, with the best coefficients for them.
    const double ln_A = std::log(found.A) + (published.alpha - found.alpha) * 20.5;
    const double ln_B = std::log(found.B) + (published.beta - found.beta) * 24.5;
    CHECK(found.objective <= objective_at(points, published.ln_E, ln_A, published.alpha, ln_B, published.beta) + 1e-9);
    // The reported objective is the paper's, recomputed naively; 770 terms of 1e-5 round at 1e-15.
    CHECK_THAT(found.objective, WithinAbs(objective_at(points, std::log(found.E), std::log(found.A), found.alpha,
                                                       std::log(found.B), found.beta),
                                          1e-12));
    CHECK(found.gradient_norm < 1e-8);
    CHECK_THAT(found.alpha, WithinAbs(published.alpha, 5e-5));
    CHECK_THAT(found.beta, WithinAbs(published.beta, 5e-5));
    CHECK_THAT(std::log(found.E), WithinAbs(published.ln_E, 5e-5));
    // Variable projection, which shares no start and no path with this walk, ends at the same optimum.
    const std::vector<std::vector<double>> x = {column(points, &Point::N), column(points, &Point::D)};
    const auto losses = column(points, &Point::L);
    const auto second = project_variables(PowerSumObjective(x, losses, 1e-3), x, losses);
    CHECK_THAT(second.objective, WithinAbs(found.objective, 1e-9));
    CHECK_THAT(second.law.terms[0].exponent, WithinAbs(found.alpha, 1e-5));
    CHECK(second.gradient_norm < 1e-8);
  }
}
