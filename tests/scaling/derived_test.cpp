#include "scaling/derived.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "scaling/fit.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::WithinRel;

TEST_CASE("compute_optimum: equal exponents split a budget by hand, and no other size on it is better") {
  // 1 + 4 N^-.5 + 9 D^-.5: G = (4/9)^(1/1) = 4/9, and at N D = 81: N = 4/9 * 9 = 4, D = 9 * 9/4 = 20.25.
  const PowerSum law{.log_floor = 0, .terms = {{std::log(4.0), 0.5}, {std::log(9.0), 0.5}}};
  const auto best = compute_optimum(law, 6 * 81);
  CHECK_THAT(best.N, WithinRel(4.0, 1e-12));
  CHECK_THAT(best.D, WithinRel(20.25, 1e-12));
  CHECK_THAT(best.loss, WithinRel(1 + 2 + 2.0, 1e-12));
  const PowerSum skew{.log_floor = 0, .terms = {{3, 0.3}, {5, 0.7}}};
  const auto found = compute_optimum(skew, 1e12);
  CHECK_THAT(6 * found.N * found.D, WithinRel(1e12, 1e-12));
  for (const double factor : {0.9, 1.1}) CHECK(skew.at({found.N * factor, found.D / factor}) > found.loss);
}

TEST_CASE("fit_report: the optimum of a budget stands beside L(N,D) with an interval that holds the true one") {
  const Surface surface{.E = 1.7, .A = 12.6, .B = 400, .alpha = 0.5, .beta = 0.6};
  const auto points = grid_points(surface, {1e3, 4e3, 1.6e4, 6.4e4}, {1e5, 4e5, 1.6e6}, 3,
                                  [](int i) { return 0.002 * std::sin(1.7 * i * i); });
  const auto report = fit_report(points, {.replicates = 80});
  const auto& derived = report["forms"]["L(N,D)"]["compute_optimal"];
  CHECK(derived["budgets"].size() == 3);
  const auto& first = derived["budgets"][0];
  CHECK_THAT(first["C"].get<double>(), WithinRel(6 * 6.4e4 * 1.6e6, 1e-12));
  const PowerSum truth{.log_floor = std::log(1.7), .terms = {{std::log(12.6), 0.5}, {std::log(400.0), 0.6}}};
  const auto best = compute_optimum(truth, first["C"]);
  CHECK(first["intervals"]["N"][0].get<double>() < best.N);
  CHECK(first["intervals"]["N"][1].get<double>() > best.N);
  CHECK(first["intervals"]["tokens_per_parameter"][0].get<double>() < first["tokens_per_parameter"].get<double>());
}
