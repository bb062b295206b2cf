#include "scaling/minimise.h"

#include <algorithm>
#include <cmath>

#include <Eigen/Cholesky>

namespace attnscale {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor, max_parameters, max_parameters>;
using Vector = Eigen::Matrix<double, Eigen::Dynamic, 1, 0, max_parameters, 1>;

constexpr int screening_iterations = 10;
constexpr int polished_starts = 24;
constexpr int screening_cells = 500;
constexpr int finished_starts = 3;

/// Newton step with the diagonal raised by `damping`; false when the matrix is not positive definite.
bool damped_step(const Derivatives& here, double damping, Vector& step) {
  Matrix matrix = Eigen::Map<const Matrix>(here.hessian.data(), here.size, here.size);
  const double scale = std::max(matrix.diagonal().cwiseAbs().maxCoeff(), 1e-300);
  for (int i = 0; i < here.size; ++i) matrix(i, i) += damping * (std::abs(matrix(i, i)) + 1e-6 * scale);
  const Eigen::LLT<Matrix> factors(matrix);
  if (factors.info() != Eigen::Success) return false;
  step = factors.solve(-Eigen::Map<const Vector>(here.gradient.data(), here.size));
  if (!step.allFinite()) return false;
  // All coordinates are logarithms or exponents: a step beyond 2 leaves the region the model describes.
  const double longest = step.cwiseAbs().maxCoeff();
  if (longest > 2) step *= 2 / longest;
  return true;
}

double norm_in_literature_form(const LogObjective& objective, const Derivatives& here) {
  const auto gradient = objective.literature_gradient(here);
  double largest = 0;
  for (int i = 0; i < here.size; ++i) largest = std::max(largest, std::abs(gradient[i]));
  return largest;
}

/// Lower, or equal to rounding with a smaller gradient: near an optimum the value no longer tells.
bool is_progress(const Derivatives& before, const Derivatives& after) {
  if (!std::isfinite(after.value)) return false;
  if (after.value < before.value * (1 - 1e-12)) return true;
  return after.value <= before.value * (1 + 1e-13) && after.gradient_norm() < before.gradient_norm();
}

}  // namespace

Minimum minimise(LogObjective& objective, const LawCoordinates& start, const DescentOptions& options) {
  LawCoordinates at = start;
  auto curvature = options.first;
  auto here = objective.evaluate(at, curvature);
  double damping = 1e-3;
  int iteration = 0;
  double norm = norm_in_literature_form(objective, here);
  for (; iteration < options.max_iterations && std::isfinite(here.value); ++iteration) {
    if (norm < options.gradient_tolerance) break;
    Vector step;
    if (!damped_step(here, damping, step)) {
      damping = std::max(damping * 10, 1e-6);
      if (damping > 1e12) break;
      continue;
    }
    auto next_at = at;
    for (int i = 0; i < here.size; ++i) next_at[i] += step[i];
    const auto next = objective.evaluate(next_at, curvature);
    if (!is_progress(here, next)) {
      damping = std::max(damping * 5, 1e-9);
      if (damping < 1e12) continue;
      // Stuck with one curvature: the other one may still see a way down.
      if (curvature == Curvature::reweighted) break;
      curvature = Curvature::reweighted;
      here = objective.evaluate(at, curvature);
      damping = 1e-3;
      continue;
    }
    const bool slow = next.value > here.value * (1 - 1e-2);
    at = next_at;
    here = next;
    norm = norm_in_literature_form(objective, here);
    damping = std::max(damping / 8, 1e-15);
    if (slow && curvature == Curvature::reweighted) {
      curvature = Curvature::exact;
      here = objective.evaluate(at, curvature);
    }
  }
  return {.at = at,
          .objective = here.value,
          .gradient_norm = norm,
          .iterations = iteration,
          .converged = norm < options.gradient_tolerance};
}

namespace {

/// The walks' ends from the lowest up, those that still differ, at most `count`.
std::vector<Minimum> distinct_ends(std::vector<Minimum> walked, int coordinates, size_t count) {
  std::stable_sort(walked.begin(), walked.end(),
                   [](const Minimum& a, const Minimum& b) { return a.objective < b.objective; });
  std::vector<Minimum> chosen;
  for (const auto& candidate : walked) {
    if (chosen.size() >= count) break;
    const bool repeated = std::any_of(chosen.begin(), chosen.end(), [&](const Minimum& other) {
      for (int i = 0; i < coordinates; ++i)
        if (!(std::abs(candidate.at[i] - other.at[i]) < 1e-4) && candidate.at[i] != other.at[i]) return false;
      return true;
    });
    if (!repeated && std::isfinite(candidate.objective)) chosen.push_back(candidate);
  }
  return chosen;
}

/// Walks from the places that are left, to convergence; the lowest end wins.
Search finish_walks(LogObjective& objective, const std::vector<Minimum>& chosen, size_t starts) {
  Search search{.best = {}, .starts = static_cast<int>(starts), .polished = 0};
  for (const auto& candidate : chosen) {
    const auto end = minimise(objective, candidate.at);
    // A converged end is preferred to one that only rounding places lower.
    const bool first = search.polished++ == 0;
    const double margin = 1e-13 * std::abs(end.objective);
    if (first || end.objective < search.best.objective - margin ||
        (end.objective <= search.best.objective + margin && end.converged && !search.best.converged))
      search.best = end;
  }
  return search;
}

}  // namespace

Search minimise_from_all(PowerSumObjective& objective, const std::vector<PowerSum>& starts) {
  PowerSumObjective screen = objective;
  const bool sampled = objective.num_cells() > screening_cells;
  if (sampled) {
    const auto points = static_cast<size_t>(objective.num_points());
    std::vector<double> weights(points, 0.0);
    for (size_t i = 0; i < screening_cells; ++i) weights[i * points / screening_cells] = 1;
    screen.set_weights(std::move(weights));
    screen.drop_weightless();
  }
  std::vector<Minimum> walked;
  for (const auto& start : starts)
    walked.push_back(minimise(screen, objective.to_coordinates(start), {.max_iterations = screening_iterations}));
  // Most starts are by now on their way to the same optimum; polish only places that still differ.
  const int coordinates = 1 + 2 * objective.num_terms();
  auto chosen = distinct_ends(std::move(walked), coordinates, polished_starts);
  if (sampled) {
    for (auto& candidate : chosen) candidate = minimise(screen, candidate.at);
    chosen = distinct_ends(std::move(chosen), coordinates, finished_starts);
  }
  return finish_walks(objective, chosen, starts.size());
}

Search minimise_from_all(LogObjective& objective, const std::vector<LawCoordinates>& starts, int size) {
  std::vector<Minimum> walked;
  for (const auto& start : starts)
    walked.push_back(minimise(objective, start, {.max_iterations = screening_iterations}));
  return finish_walks(objective, distinct_ends(std::move(walked), size, polished_starts), starts.size());
}

}  // namespace attnscale
