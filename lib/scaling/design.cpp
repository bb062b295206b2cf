#include "scaling/design.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include <fmt/format.h>
#include <Eigen/Eigenvalues>

#include "scaling/derived.h"
#include "scaling/identifiability.h"
#include "scaling/statistics.h"

namespace attnscale {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr double promised_share = 0.25, promised_share_of_E = 0.03, promised_span = 8;
constexpr double isoflop_reach = 4;  // wider grids bias the parabola, see isoflop.h
const char* const quantity_names[] = {"E", "alpha", "beta", "N_exponent"};

/// Derivatives of ln L by (ln E, ln A, alpha, ln B, beta), terms and ln x taken at the design's middle.
Eigen::MatrixXd design_rows(const DesignPrior& prior, const std::vector<DesignCell>& cells) {
  Eigen::MatrixXd rows(static_cast<Eigen::Index>(cells.size()), 5);
  double centre_N = 0, centre_D = 0;
  for (const auto& cell : cells) {
    centre_N += std::log(cell.N) / static_cast<double>(cells.size());
    centre_D += std::log(cell.D) / static_cast<double>(cells.size());
  }
  for (size_t i = 0; i < cells.size(); ++i) {
    const double E = prior.E_is_known ? 0 : std::exp(prior.law.log_floor);
    const auto& of = prior.law.terms;
    const double log_N = std::log(cells[i].N), log_D = std::log(cells[i].D);
    const double A = std::exp(of[0].log_coefficient - of[0].exponent * log_N);
    const double B = std::exp(of[1].log_coefficient - of[1].exponent * log_D);
    const double loss = std::exp(prior.law.log_floor) + A + B;
    const double weight =
        1 / std::sqrt(prior.misfit * prior.misfit + prior.noise * prior.noise / cells[i].seeds) / loss;
    rows.row(static_cast<Eigen::Index>(i)) << E * weight, A * weight, -A * (log_N - centre_N) * weight, B * weight,
        -B * (log_D - centre_D) * weight;
  }
  return rows;
}

/// Information that holds nothing of a direction leaves its error infinite; a pseudo-inverse would call it 0.
std::vector<double> errors_of(const Eigen::MatrixXd& information, const DesignPrior& prior) {
  const int held = prior.E_is_known ? 1 : 0;
  const Eigen::MatrixXd free = information.bottomRightCorner(5 - held, 5 - held);
  Eigen::VectorXd scale = free.diagonal().cwiseMax(1e-300).cwiseSqrt().cwiseInverse();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(scale.asDiagonal() * free * scale.asDiagonal());
  if (!(eigen.eigenvalues()(0) > 1e-12)) return {infinite, infinite, infinite, infinite};
  const Eigen::MatrixXd inverse =
      scale.asDiagonal() *
      (eigen.eigenvectors() * eigen.eigenvalues().cwiseInverse().asDiagonal() * eigen.eigenvectors().transpose()) *
      scale.asDiagonal();
  Eigen::MatrixXd covariance = Eigen::MatrixXd::Zero(5, 5);
  covariance.bottomRightCorner(5 - held, 5 - held) = inverse;
  const double alpha = prior.law.terms[0].exponent, beta = prior.law.terms[1].exponent;
  Eigen::VectorXd share = Eigen::VectorXd::Zero(5);  // of beta / (alpha + beta)
  share(2) = -beta / std::pow(alpha + beta, 2);
  share(4) = alpha / std::pow(alpha + beta, 2);
  return {std::exp(prior.law.log_floor) * std::sqrt(covariance(0, 0)), std::sqrt(covariance(2, 2)),
          std::sqrt(covariance(4, 4)), std::sqrt(share.dot(covariance * share))};
}

/// ln of the determinant of an information that need not determine the law: directions of which it holds nothing count
/// as held with a millionth of the others. A cell that adds a direction lifts it by far more than one that repeats
/// another.
double log_determinant(const DesignPrior& prior, const std::vector<DesignCell>& cells) {
  const int held = prior.E_is_known ? 1 : 0;
  Eigen::MatrixXd information = Eigen::MatrixXd::Zero(5 - held, 5 - held);
  if (!cells.empty()) {
    const auto rows = design_rows(prior, cells).rightCols(5 - held).eval();
    information = rows.transpose() * rows;
  }
  constexpr double least = 1e-6;
  const double weight = 1 / (prior.misfit * prior.misfit + prior.noise * prior.noise);  // of one run
  information.diagonal().array() += least * weight;
  return Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(information).eigenvalues().array().log().sum();
}

double log_product(const std::vector<double>& errors, const DesignPrior& prior) {
  return (prior.E_is_known ? 0 : std::log(errors[0])) + std::log(errors[1]) + std::log(errors[2]);
}

double cost_per_step(const SizeOption& size, const DesignOptions& options) {
  return options.in_seconds ? size.seconds_per_step : size.flops_per_step;
}

/// `count` places from 0 to last, evenly spaced in ln N, without repetition.
std::vector<size_t> spread_sizes(const std::vector<SizeOption>& sizes, size_t first, size_t last, size_t count) {
  std::set<size_t> chosen;
  for (size_t k = 0; k < count; ++k) {
    const double wanted = std::log(sizes[first].N) + static_cast<double>(k) / static_cast<double>(count - 1) *
                                                         std::log(sizes[last].N / sizes[first].N);
    size_t nearest = first;
    for (size_t i = first; i <= last; ++i)
      if (std::abs(std::log(sizes[i].N) - wanted) < std::abs(std::log(sizes[nearest].N) - wanted)) nearest = i;
    chosen.insert(nearest);
  }
  return {chosen.begin(), chosen.end()};
}

double cost_of(const Design& design, const std::vector<SizeOption>& sizes, const DesignOptions& options) {
  double cost = 0;
  for (const auto& cell : design.cells)
    cost += cost_per_step(sizes[cell.size], options) * static_cast<double>(cell.steps) * options.seeds;
  return cost;
}

std::vector<DesignCell> cells_of(const Design& design, const std::vector<SizeOption>& sizes, int seeds) {
  std::vector<DesignCell> cells;
  for (const auto& cell : design.cells)
    cells.push_back({.N = sizes[cell.size].N,
                     .D = static_cast<double>(cell.steps) * sizes[cell.size].tokens_per_step,
                     .seeds = seeds});
  return cells;
}

/// Grids: every choice of the largest width and of the numbers of widths and step counts, and as many steps as the
/// budget pays for.
std::vector<Design> grids(const std::vector<SizeOption>& sizes, const DesignOptions& options) {
  std::vector<Design> list;
  for (size_t last = 3; last < sizes.size(); ++last)
    for (size_t widths = 4; widths <= 6; ++widths)
      for (int counts = 4; counts <= 6; ++counts) {
        const auto chosen = spread_sizes(sizes, 0, last, widths);
        if (chosen.size() < widths) continue;
        double per_step = 0;
        for (const size_t i : chosen) per_step += cost_per_step(sizes[i], options) * options.seeds;
        const double affordable = options.budget / per_step;  // sum of the step counts
        // min_steps (1 + r + r^2 + ..) = affordable, by bisection in the ratio r.
        double low = 1, high = 64;
        const auto sum = [&](double ratio) {
          double all = 0;
          for (int k = 0; k < counts; ++k) all += static_cast<double>(options.min_steps) * std::pow(ratio, k);
          return all;
        };
        if (sum(1.3) > affordable) continue;
        for (int i = 0; i < 60; ++i) (sum(0.5 * (low + high)) > affordable ? high : low) = 0.5 * (low + high);
        Design design;
        for (const size_t i : chosen)
          for (int k = 0; k < counts; ++k)
            design.cells.push_back(
                {.size = i, .steps = static_cast<int64_t>(static_cast<double>(options.min_steps) * std::pow(low, k))});
        list.push_back(std::move(design));
      }
  return list;
}

/// The cells of one budget: up to `count` sizes about the prior's best one.
std::vector<Design::Cell> budget_cells(const std::vector<SizeOption>& sizes, const DesignPrior& prior,
                                       const DesignOptions& options, double C, size_t count) {
  const double best = compute_optimum(prior.law, C).N;
  std::vector<size_t> near;
  for (size_t i = 0; i < sizes.size(); ++i)
    if (sizes[i].N <= best * isoflop_reach && sizes[i].N >= best / isoflop_reach &&
        C / sizes[i].run_flops_per_step >= static_cast<double>(options.min_steps))
      near.push_back(i);
  if (near.size() < 4) return {};
  std::vector<Design::Cell> cells;
  for (const size_t i : spread_sizes(sizes, near.front(), near.back(), count))
    cells.push_back({.size = i, .steps = std::llround(C / sizes[i].run_flops_per_step)});
  return cells;
}

std::vector<Design> isoflops(const std::vector<SizeOption>& sizes, const DesignPrior& prior,
                             const DesignOptions& options) {
  std::vector<Design> list;
  for (int budgets = 3; budgets <= 5; ++budgets)
    for (const double ratio : {2.0, 3.0, 4.0, 6.0})
      for (size_t count = 4; count <= 6; ++count) {
        const auto at = [&](double C) {
          Design design;
          for (int k = 0; k < budgets; ++k) {
            const double budget = C / std::pow(ratio, k);
            const auto cells = budget_cells(sizes, prior, options, budget, count);
            if (cells.size() < 4) return Design{};
            design.budgets.push_back(budget);
            design.cells.insert(design.cells.end(), cells.begin(), cells.end());
          }
          std::reverse(design.budgets.begin(), design.budgets.end());
          return design;
        };
        // The largest affordable budget; what is not possible at one C may be at a larger one.
        for (double C = 1e25; C > 1e6; C /= 1.2) {
          auto design = at(C);
          if (design.cells.empty() || cost_of(design, sizes, options) > options.budget) continue;
          list.push_back(std::move(design));
          break;
        }
      }
  return list;
}

std::string promise_text(const IntervalForecast& each, double reach, const char* symbol, double spanned) {
  const auto name = each.name == "N_exponent" ? std::string("best size against compute, exponent") : each.name;
  if (each.promised) return fmt::format("{} {:.3g} +- {:.2g}", name, each.value, each.half_width);
  const auto width = std::isfinite(each.half_width) ? fmt::format("+- {:.2g} of {:.3g}", each.half_width, each.value)
                                                    : std::string("unbounded");
  if (symbol && spanned < promised_span)
    return fmt::format(
        "{} is NOT promised: {} spans {:.2g}x, at least {:.0f}x are needed ({}); spend more, or begin "
        "smaller",
        name, symbol, spanned, promised_span, width);
  return fmt::format(
      "{} is NOT promised: its interval would be {}, wider than {:.0f} %; spend more, widen the spans, "
      "or add seeds",
      name, width, 100 * reach);
}

}  // namespace

std::vector<double> standard_errors(const DesignPrior& prior, const std::vector<DesignCell>& cells) {
  if (cells.empty()) return {infinite, infinite, infinite, infinite};
  const auto rows = design_rows(prior, cells);
  return errors_of(rows.transpose() * rows, prior);
}

std::vector<IntervalForecast> forecast_intervals(const DesignPrior& prior, const std::vector<DesignCell>& cells) {
  std::set<std::pair<double, double>> distinct;
  std::vector<double> N, D;
  for (const auto& cell : cells) {
    distinct.emplace(cell.N, cell.D);
    N.push_back(cell.N);
    D.push_back(cell.D);
  }
  const double freedom = static_cast<double>(distinct.size()) - (prior.E_is_known ? 4 : 5);
  const auto errors = standard_errors(prior, cells);
  const double t = freedom >= 1 ? student_t_quantile(0.975, freedom) : infinite;
  const double alpha = prior.law.terms[0].exponent, beta = prior.law.terms[1].exponent;
  const double values[] = {std::exp(prior.law.log_floor), alpha, beta, beta / (alpha + beta)};
  const double spans[] = {infinite, cells.empty() ? 1 : span(N), cells.empty() ? 1 : span(D),
                          cells.empty() ? 1 : std::min(span(N), span(D))};
  const char* const symbols[] = {nullptr, "N", "D", "the narrower of N and D"};
  std::vector<IntervalForecast> list;
  for (int i = prior.E_is_known ? 1 : 0; i < 4; ++i) {
    const double reach = i == 0 ? promised_share_of_E : promised_share;
    IntervalForecast each{.name = quantity_names[i], .value = values[i], .half_width = t * errors[i], .text = {}};
    each.promised = each.half_width <= reach * values[i] && spans[i] >= promised_span;
    each.text = promise_text(each, reach, symbols[i], spans[i]);
    list.push_back(std::move(each));
  }
  return list;
}

std::optional<Design> propose_design(const std::vector<SizeOption>& sizes, const DesignPrior& prior,
                                     const DesignOptions& options) {
  auto designs = options.kind == DesignKind::grid ? grids(sizes, options) : isoflops(sizes, prior, options);
  std::optional<Design> best;
  double lowest = infinite;
  for (auto& design : designs) {
    const auto errors = standard_errors(prior, cells_of(design, sizes, options.seeds));
    const double value = log_product(errors, prior);
    if (!(value < lowest)) continue;
    lowest = value;
    design.cost = cost_of(design, sizes, options);
    best = std::move(design);
  }
  return best;
}

std::vector<size_t> next_runs(const std::vector<DesignCell>& existing, const std::vector<SizeOption>& sizes,
                              const std::vector<Design::Cell>& candidates, const DesignPrior& prior,
                              const DesignOptions& options) {
  std::map<std::pair<double, double>, int> seeds;
  for (const auto& cell : existing) seeds[{cell.N, cell.D}] += cell.seeds;
  const auto key_of = [&](const Design::Cell& cell) {
    return std::pair(sizes[cell.size].N, static_cast<double>(cell.steps) * sizes[cell.size].tokens_per_step);
  };
  const auto cells = [&] {
    std::vector<DesignCell> list;
    for (const auto& [key, count] : seeds) list.push_back({.N = key.first, .D = key.second, .seeds = count});
    return list;
  };
  const auto value = [&] { return log_product(standard_errors(prior, cells()), prior); };
  std::vector<size_t> chosen;
  double left = options.budget, here = value();
  for (;;) {
    size_t best = candidates.size();
    double most = 0, next = 0;
    const bool determined = std::isfinite(here);
    const double volume = determined ? 0 : log_determinant(prior, cells());
    for (size_t i = 0; i < candidates.size(); ++i) {
      const auto& candidate = candidates[i];
      const double cost = cost_per_step(sizes[candidate.size], options) * static_cast<double>(candidate.steps);
      if (cost > left) continue;
      const auto key = key_of(candidate);
      // Another seed determines nothing that its cell does not.
      if (!determined && seeds.count(key)) continue;
      ++seeds[key];
      const double with = value();
      // From an undetermined law any run that determines it is worth more than all others; until then what it adds to
      // the information decides.
      const double gain = determined            ? (here - with) / cost
                          : std::isfinite(with) ? 1e300 - cost
                                                : (log_determinant(prior, cells()) - volume) / cost;
      if (--seeds[key] == 0) seeds.erase(key);
      if (gain > most) {
        most = gain;
        best = i;
        next = with;
      }
    }
    if (best == candidates.size()) return chosen;
    chosen.push_back(best);
    ++seeds[key_of(candidates[best])];
    here = next;
    left -= cost_per_step(sizes[candidates[best].size], options) * static_cast<double>(candidates[best].steps);
  }
}

double misfit_between_cells(double rms, size_t points, size_t cells, int parameters, double noise) {
  const auto P = static_cast<double>(points), G = static_cast<double>(cells);
  const double freedom = G - parameters;
  if (!(freedom > 0)) return 0;
  const double of_cells = (rms * rms * P - noise * noise * (P - G)) / freedom;  // noise^2 + P / G misfit^2 on average
  return std::sqrt(std::max(0.0, (of_cells - noise * noise) * G / P));
}

}  // namespace attnscale
