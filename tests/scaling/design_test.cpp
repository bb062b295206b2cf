#include "scaling/design.h"

#include <cmath>
#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "scaling/derived.h"
#include "scaling/parametric.h"
#include "scaling/simulation.h"
#include "scaling/statistics.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

DesignPrior toy_prior(double noise, double misfit) {
  return {.law = {.log_floor = std::log(1.7),
                  .terms = {{std::log(0.6) + 0.5 * std::log(1e3), 0.5}, {std::log(0.6) + 0.4 * std::log(1e5), 0.4}}},
          .noise = noise,
          .misfit = misfit,
          .source = "test"};
}

std::vector<DesignCell> grid(int sizes, double size_ratio, int counts, double count_ratio, int seeds) {
  std::vector<DesignCell> cells;
  for (int i = 0; i < sizes; ++i)
    for (int j = 0; j < counts; ++j)
      cells.push_back({.N = 1e3 * std::pow(size_ratio, i), .D = 1e5 * std::pow(count_ratio, j), .seeds = seeds});
  return cells;
}

/// Widths 4, 6, 8, ... whose cost per step grows as their parameters.
std::vector<SizeOption> size_options() {
  std::vector<SizeOption> list;
  for (int i = 0; i < 14; ++i) {
    const double N = 1e3 * std::pow(2.0, i * 0.7);
    list.push_back({.width = 4 + 2 * i,
                    .N = N,
                    .run_flops_per_step = 6 * N * 512,
                    .flops_per_step = 3 * 6 * N * 512,  // three variants
                    .seconds_per_step = 1e-3 + N * 1e-8,
                    .tokens_per_step = 512});
  }
  return list;
}

}  // namespace

TEST_CASE("design: standard errors from the Fisher information are the scatter of fits to simulated sweeps") {
  SimulatedSource source{
      .name = "toy", .law = toy_prior(0, 0).law, .sizes = {}, .tokens = {}, .seeds = 3, .noise = 0.002};
  for (int i = 0; i < 6; ++i) source.sizes.push_back(1e3 * std::pow(3.0, i));
  for (int j = 0; j < 5; ++j) source.tokens.push_back(1e5 * std::pow(4.0, j));
  const auto expected = standard_errors(toy_prior(0.002, 0), grid(6, 3, 5, 4, 3));
  std::vector<double> E, alpha, beta;
  for (int sweep = 0; sweep < 200; ++sweep) {
    std::vector<std::vector<double>> x(2);
    std::vector<double> losses;
    for (const auto& point : simulate(source, static_cast<uint64_t>(sweep))) {
      x[0].push_back(point.N);
      x[1].push_back(point.D);
      losses.push_back(point.L);
    }
    // Squares, as Fisher's information of normal noise has them.
    PowerSumObjective objective(x, losses, 1);
    const auto end = minimise(objective, objective.to_coordinates(source.law));
    const auto law = objective.from_coordinates(end.at);
    E.push_back(std::exp(law.log_floor));
    alpha.push_back(law.terms[0].exponent);
    beta.push_back(law.terms[1].exponent);
  }
  // A deviation of 200 normal values has itself a relative error of 5 %; three of them, and the law's curvature.
  CHECK_THAT(standard_deviation(E), WithinRel(expected[0], 0.2));
  CHECK_THAT(standard_deviation(alpha), WithinRel(expected[1], 0.2));
  CHECK_THAT(standard_deviation(beta), WithinRel(expected[2], 0.2));
}

TEST_CASE("design: a span of tokens of 4x, 16x and 256x: the error of beta falls as the reference says") {
  // 6 sizes x 5 data sizes x 3 seeds, noise .004 on a Chinchilla-like surface: .056, .014, .0035 (scaling-laws.md).
  // The reference does not say where its grid lies; on this one the ratios must come out.
  DesignPrior prior{.law = {.log_floor = std::log(1.69), .terms = {{std::log(406.4), 0.34}, {std::log(410.7), 0.28}}},
                    .noise = 0.004,
                    .misfit = 0,
                    .source = "test"};
  std::vector<double> errors;
  for (const double span : {4.0, 16.0, 256.0}) {
    std::vector<DesignCell> cells;
    for (int i = 0; i < 6; ++i)
      for (int j = 0; j < 5; ++j)
        cells.push_back({.N = 1e7 * std::pow(4.0, i), .D = 1e8 * std::pow(span, j / 4.0), .seeds = 3});
    errors.push_back(standard_errors(prior, cells)[2]);
  }
  CHECK(errors[0] / errors[1] > 3);
  CHECK(errors[0] / errors[1] < 5.5);  // .056 / .014 = 4
  CHECK(errors[1] / errors[2] > 2.5);
  CHECK(errors[1] / errors[2] < 6);  // .014 / .0035 = 4
  // And a known E is worth much at a short span.
  std::vector<DesignCell> cells;
  for (int i = 0; i < 6; ++i)
    for (int j = 0; j < 5; ++j)
      cells.push_back({.N = 1e7 * std::pow(4.0, i), .D = 1e8 * std::pow(4.0, j / 4.0), .seeds = 3});
  prior.E_is_known = true;
  CHECK(standard_errors(prior, cells)[2] < errors[0] / 5);
}

TEST_CASE("design: an exponent that the span cannot give is not promised, in words that tell what would") {
  const auto short_span = forecast_intervals(toy_prior(0.004, 0.002), grid(5, 3, 4, 1.4, 2));
  REQUIRE(short_span.size() == 4);
  CHECK(short_span[2].name == "beta");
  CHECK_FALSE(short_span[2].promised);
  CHECK(short_span[2].text.find("D spans 2.7x") != std::string::npos);
  const auto wide = forecast_intervals(toy_prior(0.001, 0.0005), grid(6, 4, 5, 4, 3));
  for (const auto& each : wide) {
    INFO(each.text);
    CHECK(each.promised);
    CHECK(each.half_width > 0);
  }
  // Fewer cells than parameters determine nothing, and one size no exponent of N.
  for (const auto& each : forecast_intervals(toy_prior(0.004, 0), grid(1, 1, 8, 2, 2))) CHECK_FALSE(each.promised);
  for (const auto& each : forecast_intervals(toy_prior(0.004, 0), grid(2, 4, 2, 4, 9))) CHECK_FALSE(each.promised);
  CHECK(forecast_intervals(toy_prior(0.004, 0), {}).front().text.find("NOT promised") != std::string::npos);
}

TEST_CASE("design: proposals keep to the budget and use most of it; more of it gives narrower intervals") {
  for (const auto kind : {DesignKind::grid, DesignKind::isoflop}) {
    double before = std::numeric_limits<double>::infinity();
    for (const double budget : {3e12, 3e13, 3e14}) {
      const DesignOptions options{.kind = kind, .budget = budget, .in_seconds = false, .seeds = 2, .min_steps = 100};
      const auto prior = toy_prior(0.004, 0.002);
      const auto design = propose_design(size_options(), prior, options);
      REQUIRE(design);
      double cost = 0;
      std::vector<DesignCell> cells;
      for (const auto& cell : design->cells) {
        CHECK(cell.steps >= options.min_steps);
        cost += static_cast<double>(cell.steps) * size_options()[cell.size].flops_per_step * options.seeds;
        cells.push_back({.N = size_options()[cell.size].N, .D = static_cast<double>(cell.steps) * 512, .seeds = 2});
      }
      CHECK(cost <= budget * (1 + 1e-9));
      CHECK(cost > 0.5 * budget);
      CHECK_THAT(design->cost, WithinRel(cost, 1e-9));
      const auto errors = standard_errors(prior, cells);
      const double error = errors[0] * errors[1] * errors[2];
      CHECK(error < before);
      before = error;
    }
    CHECK_FALSE(propose_design(size_options(), toy_prior(0.004, 0.002), {.kind = kind, .budget = 1e9}));
  }
}

TEST_CASE("design: an IsoFLOP design has four sizes or more at each budget, within a factor 4 of the best one") {
  const auto prior = toy_prior(0.004, 0.002);
  const auto design =
      propose_design(size_options(), prior, {.kind = DesignKind::isoflop, .budget = 1e14, .min_steps = 100});
  REQUIRE(design);
  REQUIRE(design->budgets.size() >= 3);
  for (const double budget : design->budgets) {
    std::set<size_t> used;
    for (const auto& cell : design->cells) {
      const auto size = size_options()[cell.size];
      const double C = static_cast<double>(cell.steps) * size.run_flops_per_step;
      if (std::abs(std::log(C / budget)) > 0.05) continue;
      used.insert(cell.size);
      CHECK(std::abs(std::log(size.N / compute_optimum(prior.law, budget).N)) <= std::log(4.0) + 1e-9);
    }
    CHECK(used.size() >= 4);
  }
}

TEST_CASE("design: next runs are those that narrow the intervals most, within the budget") {
  const auto prior = toy_prior(0.004, 0.002);
  const auto list = size_options();
  std::vector<DesignCell> existing;
  for (const size_t i : {0, 2, 4})
    for (const double steps : {100., 200., 400.}) existing.push_back({.N = list[i].N, .D = steps * 512, .seeds = 2});
  std::vector<Design::Cell> candidates;
  for (const size_t i : {0, 2, 4, 6})
    for (const int64_t steps : {100, 200, 400, 800, 3200}) candidates.push_back({.size = i, .steps = steps});
  const DesignOptions options{.budget = 1e13};
  const auto chosen = next_runs(existing, list, candidates, prior, options);
  REQUIRE_FALSE(chosen.empty());
  double cost = 0;
  auto cells = existing;
  for (const size_t i : chosen) {
    const auto& size = list[candidates[i].size];
    cost += static_cast<double>(candidates[i].steps) * size.flops_per_step;
    cells.push_back({.N = size.N, .D = static_cast<double>(candidates[i].steps) * 512, .seeds = 1});
  }
  CHECK(cost <= options.budget);
  const auto before = standard_errors(prior, existing), after = standard_errors(prior, cells);
  for (int i = 0; i < 3; ++i) CHECK(after[i] < before[i]);
  // The first choice gains more per cost than any other, by trying all.
  const auto gain = [&](size_t i) {
    auto with = existing;
    const auto& size = list[candidates[i].size];
    const DesignCell cell{.N = size.N, .D = static_cast<double>(candidates[i].steps) * 512, .seeds = 1};
    bool merged = false;
    for (auto& each : with)
      if (each.N == cell.N && each.D == cell.D) {
        ++each.seeds;
        merged = true;
      }
    if (!merged) with.push_back(cell);
    const auto errors = standard_errors(prior, with);
    double sum = 0;
    for (int k = 0; k < 3; ++k) sum += std::log(before[k] / errors[k]);
    return sum / (static_cast<double>(candidates[i].steps) * size.flops_per_step);
  };
  for (size_t i = 0; i < candidates.size(); ++i) CHECK(gain(chosen.front()) >= gain(i) * (1 - 1e-9));
  CHECK(next_runs(existing, list, candidates, prior, {.budget = 1}).empty());
}

TEST_CASE("design: from a law that is not determined the next runs are all different, until it is") {
  const auto prior = toy_prior(0.004, 0.002);
  const auto list = size_options();
  std::vector<Design::Cell> candidates;
  for (const size_t size : {0, 3, 6, 9})
    for (const int64_t steps : {100, 400, 1600}) candidates.push_back({.size = size, .steps = steps});
  for (const bool from_nothing : {true, false}) {
    // One cell with twenty seeds says nothing of exponents either.
    std::vector<DesignCell> cells;
    if (!from_nothing) cells.push_back({.N = list[0].N, .D = 100 * 512.0, .seeds = 20});
    const auto chosen = next_runs(cells, list, candidates, prior, {.budget = 1e15});
    std::set<std::pair<double, double>> seen;
    for (const auto& cell : cells) seen.emplace(cell.N, cell.D);
    size_t runs = 0;
    while (!std::isfinite(standard_errors(prior, cells)[0])) {
      REQUIRE(runs < chosen.size());
      const auto& cell = candidates[chosen[runs++]];
      cells.push_back({.N = list[cell.size].N, .D = static_cast<double>(cell.steps) * 512, .seeds = 1});
      CHECK(seen.emplace(cells.back().N, cells.back().D).second);
    }
    // Five parameters need five cells; cheap ones first may take one or two more.
    CHECK(cells.size() <= 7);
  }
}

// 40 cells with 3 seeds each, normal misfit .003 and noise .002: residuals of a law with 5 parameters lose 5 of 40
// degrees.
TEST_CASE("design: the misfit between cells is found from residuals, with the degrees of freedom that the fit took") {
  constexpr int cells = 40, seeds = 3;
  constexpr double misfit = 0.003, noise = 0.002;
  // What least squares leaves on average: (G - p) (noise^2 + m misfit^2) between, (P - G) noise^2 within.
  const double squares = (cells - 5) * (noise * noise + seeds * misfit * misfit) + cells * (seeds - 1) * noise * noise;
  CHECK_THAT(misfit_between_cells(std::sqrt(squares / (cells * seeds)), cells * seeds, cells, 5, noise),
             WithinRel(misfit, 1e-12));
  // One seed: the noise must come from elsewhere.
  const double single = (cells - 5) * (noise * noise + misfit * misfit);
  CHECK_THAT(misfit_between_cells(std::sqrt(single / cells), cells, cells, 5, noise), WithinRel(misfit, 1e-12));
  CHECK(misfit_between_cells(noise / 2, cells * seeds, cells, 5, noise) == 0);
  CHECK(misfit_between_cells(0.1, 5, 5, 5, noise) == 0);
}
