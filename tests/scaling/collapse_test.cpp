#include "scaling/collapse.h"

#include <cmath>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinAbs;

namespace {

/// Runs whose curves are E + amplitude(N) (x^-p): with one p they collapse, with p that depends on N they do not.
std::vector<Point> runs(bool one_shape, double noise) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal(0, 1);
  std::vector<Point> points;
  int number = 0;
  for (const double N : {1e3, 4e3, 1.6e4, 6.4e4})
    for (int seed = 0; seed < 4; ++seed) {
      Point point;
      point.N = N;
      point.D = 100 * N;
      point.run = std::to_string(number++);
      const double of_seed = noise * normal(random);
      const double power = (one_shape ? 0.5 : 0.3 + 0.1 * std::log10(N / 1e3)) + of_seed;
      for (int k = 1; k <= 20; ++k)
        point.curve.push_back({.D = point.D * k / 20,
                               .C = 6 * N * point.D * k / 20,
                               .L = 1.5 + std::pow(N, -0.3) * std::pow(k / 20.0, -power)});
      point.L = point.curve.back().L;
      points.push_back(point);
    }
  return points;
}

}  // namespace

TEST_CASE("collapse: curves of one shape collapse whatever their height, and the normalised curve is that shape") {
  const auto report = collapse_report(runs(true, 0.01), 1.5);
  CHECK(report["sizes"] == 4);
  CHECK(report["runs"] == 16);
  CHECK(report["collapses"].get<bool>());
  // At x = .2, which is an evaluation, l = .2^-.5 but for the seeds' noise in the power.
  CHECK_THAT(report["x"][0].get<double>(), WithinAbs(0.2, 1e-12));
  CHECK_THAT(report["mean"][0].get<double>(), WithinAbs(std::pow(0.2, -0.5), 0.05));
}

TEST_CASE("collapse: shapes that change with size do not, and a wrong floor is found out") {
  const auto bent = collapse_report(runs(false, 0.01), 1.5);
  CHECK_FALSE(bent["collapses"].get<bool>());
  CHECK(bent["ratio"].get<double>() > 3);
  CHECK(bent["verdict"].get<std::string>().find("NOT") != std::string::npos);
  // Too low an E flattens the curves of large models more than those of small ones.
  CHECK_FALSE(collapse_report(runs(true, 0.01), 1.3)["collapses"].get<bool>());
}

TEST_CASE("collapse: one seed per size gives no verdict, two sizes nothing, and the tokens asked for are taken") {
  auto one = runs(true, 0);
  std::erase_if(one, [](const Point& point) { return std::stoi(point.run) % 4 != 0; });
  const auto report = collapse_report(one, 1.5);
  CHECK_FALSE(report.contains("collapses"));
  CHECK(report["verdict"].get<std::string>().find("run 3 or more") != std::string::npos);
  // A second token count of bent curves is not looked at when the first is the best one.
  const auto bent = runs(false, 0.01);
  auto both = runs(true, 0.01);
  for (auto point : bent) {
    point.D *= 16;
    for (auto& at : point.curve) at.D *= 16;
    both.push_back(point);
  }
  CHECK(collapse_report(both, 1.5, [](double N) { return 100 * N; })["collapses"].get<bool>());
  CHECK_FALSE(collapse_report(both, 1.5, [](double N) { return 1600 * N; })["collapses"].get<bool>());
  CHECK_FALSE(collapse_report(both, 1.5)["collapses"].get<bool>());  // without advice the longest
  one.resize(2);
  CHECK(collapse_report(one, 1.5).is_null());
}
