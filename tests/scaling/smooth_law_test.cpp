#include "scaling/smooth_law.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "scaling/variable_projection.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

struct Table {
  std::vector<std::vector<double>> x;
  std::vector<double> losses;
};

/// Muennighoff et al. 2023, equations (5) to (7), from the paper and not from the library.
double constrained_loss(double N, double D, double U, const std::vector<double>& p) {
  const double E = p[0], A = p[1], alpha = p[2], B = p[3], beta = p[4], RN = p[5], RD = p[6];
  const auto effective = [](double all, double unique, double reach) {
    const double repeats = all / unique - 1;
    return unique + unique * reach * (1 - std::exp(-repeats / reach));
  };
  const double U_D = std::min(U, D);
  // Hoffmann et al., eq. (4): N = G (C/6)^(beta/(alpha+beta)), D = (C/6)^(alpha/(alpha+beta)) / G at the C with D =
  // U_D.
  const double G = std::pow(alpha * A / (beta * B), 1 / (alpha + beta));
  const double C = std::pow(U_D * G, (alpha + beta) / alpha);
  const double U_N = std::min(N, G * std::pow(C, beta / (alpha + beta)));
  return E + A / std::pow(effective(N, U_N, RN), alpha) + B / std::pow(effective(D, U_D, RD), beta);
}

/// The values that the paper publishes (section 6: C4, alpha = beta = 0.353, R_N = 5.31, R_D = 15.39).
const std::vector<double> published = {1.87, 521, 0.353, 1488, 0.353, 5.31, 15.39};

Table constrained_table(const std::vector<double>& truth) {
  Table table{.x = {{}, {}, {}}, .losses = {}};
  for (const double N : {7e6, 4e7, 2.2e8, 1e9, 4e9})
    for (const double U : {1e8, 4e8, 1.5e9, 9e9})
      for (const double epochs : {0.5, 1.0, 3.0, 10.0, 40.0, 160.0}) {
        table.x[0].push_back(N);
        table.x[1].push_back(U * epochs);
        table.x[2].push_back(U);
        table.losses.push_back(constrained_loss(N, U * epochs, U, truth));
      }
  return table;
}

/// Caballero et al. 2022, equation (1) with n = 1.
Table broken_table(const std::vector<double>& p) {
  Table table{.x = {{}}, .losses = {}};
  for (int i = 0; i < 24; ++i) {
    const double x = 1e4 * std::pow(1.8, i);
    table.x[0].push_back(x);
    table.losses.push_back(p[0] + p[1] * std::pow(x, -p[2]) * std::pow(1 + std::pow(x / p[4], 1 / p[5]), -p[3] * p[5]));
  }
  return table;
}

void check_recovers(const SmoothLaw& law, const Table& table, const std::vector<double>& truth) {
  SmoothObjective objective(law, table.x, table.losses, 1e-3);
  const auto search = minimise_from_all(objective, starts_of(objective), law.size());
  CHECK(search.best.objective < 1e-18);
  CHECK(search.best.gradient_norm < 1e-8);
  const auto second = project_law(objective);
  CHECK(second.objective < 1e-18);
  CHECK(second.gradient_norm < 1e-8);
  const auto one = law.literature(search.best.at), other = law.literature(second.at);
  for (int i = 0; i < law.size(); ++i) {
    INFO(law.parameters[i].name);
    CHECK_THAT(one[i], WithinRel(truth[i], 1e-6));
    CHECK_THAT(other[i], WithinRel(truth[i], 1e-6));
  }
  CHECK(std::isfinite(condition_number(objective, search.best.at)));
}

/// The analytic gradient against central differences of the value, away from the optimum.
void check_gradient(const SmoothLaw& law, const Table& table, const LawCoordinates& at, double delta) {
  SmoothObjective objective(law, table.x, table.losses, delta);
  const auto here = objective.evaluate(at, Curvature::reweighted);
  REQUIRE(std::isfinite(here.value));
  for (int i = 0; i < law.size(); ++i) {
    auto up = at, down = at;
    up[i] += 1e-6;
    down[i] -= 1e-6;
    const double difference =
        (objective.evaluate(up, Curvature::reweighted).value - objective.evaluate(down, Curvature::reweighted).value) /
        2e-6;
    INFO(law.name << " " << law.parameters[i].name);
    // The value rounds at 1e-16 of itself, which the quotient magnifies by 1e6; curvature adds 1e-12.
    CHECK_THAT(here.gradient[i], WithinAbs(difference, 1e-8 * (1 + std::abs(here.value) + std::abs(difference))));
  }
}

}  // namespace

TEST_CASE("smooth_law: the data-constrained law recovers all seven parameters of a noise-free surface to 1e-6") {
  const auto table = constrained_table(published);
  check_recovers(data_constrained_law(table.x), table, published);
}

TEST_CASE("smooth_law: the broken power law recovers all six parameters of a noise-free curve to 1e-6") {
  const std::vector<double> truth = {1.2, 30, 0.15, 0.35, 2e7, 0.4};
  const auto table = broken_table(truth);
  check_recovers(broken_power_law(table.x), table, truth);
}

TEST_CASE("smooth_law: a broken power law without a break is a power law, and keeps a fixed floor") {
  const auto table = broken_table({1.2, 30, 0.3, 0, 2e7, 0.4});
  const auto law = broken_power_law(table.x);
  SmoothObjective objective(law, table.x, table.losses, 1e-3, 1.2);
  CHECK(objective.num_free() == 5);
  const auto search = minimise_from_all(objective, starts_of(objective), law.size());
  CHECK(search.best.objective < 1e-14);
  CHECK_THAT(law.literature(search.best.at)[0], WithinRel(1.2, 1e-12));
}

TEST_CASE("smooth_law: analytic gradients are those of central differences") {
  const auto constrained = constrained_table(published);
  const auto law = data_constrained_law(constrained.x);
  // Without repetition at all, with much, and with sizes beyond the best one.
  for (const auto& values :
       {std::vector<double>{1.6, 300, 0.3, 900, 0.4, 3, 8}, std::vector<double>{2, 4000, 0.45, 500, 0.3, 0.7, 2}})
    for (const double delta : {1e-3, 10.0}) check_gradient(law, constrained, law.coordinates(values), delta);
  const auto broken = broken_table({1.2, 30, 0.15, 0.35, 2e7, 0.4});
  const auto bent = broken_power_law(broken.x);
  for (const double delta : {1e-3, 10.0})
    check_gradient(bent, broken, bent.coordinates({0.9, 20, 0.1, 0.5, 5e6, 0.8}), delta);
}

TEST_CASE("smooth_law: coordinates and literature's values are each other's inverse") {
  const auto table = constrained_table(published);
  const auto law = data_constrained_law(table.x);
  const auto back = law.literature(law.coordinates(published));
  for (size_t i = 0; i < published.size(); ++i) CHECK_THAT(back[i], WithinRel(published[i], 1e-12));
}
