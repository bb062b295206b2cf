#include "scaling/smooth_law.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace attnscale {

std::vector<double> SmoothLaw::literature(const LawCoordinates& at) const {
  std::vector<double> values;
  for (int i = 0; i < size(); ++i) {
    const auto& parameter = parameters[i];
    double value = at[i];
    if (parameter.scaled_by >= 0) value += at[parameter.scaled_by] * parameter.centre;
    values.push_back(parameter.is_logarithm ? std::exp(value) : value);
  }
  return values;
}

LawCoordinates SmoothLaw::coordinates(const std::vector<double>& values) const {
  LawCoordinates at{};
  for (int i = 0; i < size(); ++i) {
    at[i] = parameters[i].is_logarithm ? std::log(values[i]) : values[i];
    if (parameters[i].scaled_by >= 0) at[i] -= values[parameters[i].scaled_by] * parameters[i].centre;
  }
  return at;
}

SmoothObjective::SmoothObjective(const SmoothLaw& law, const std::vector<std::vector<double>>& x,
                                 const std::vector<double>& losses, double delta, std::optional<double> fixed_floor,
                                 std::vector<double> weights)
    : law_(&law), rows_(losses.size()), weights_(std::move(weights)), delta_(delta) {
  if (weights_.empty()) weights_.assign(losses.size(), 1.0);
  if (fixed_floor) fixed_ = std::log(*fixed_floor);
  for (size_t i = 0; i < losses.size(); ++i) {
    log_losses_.push_back(std::log(losses[i]));
    for (const auto& column : x) rows_[i].push_back(std::log(column[i]));
  }
}

void SmoothObjective::value_and_gradient(const LawCoordinates& at, Derivatives& out, bool with_curvature) const {
  const int size = out.size = law_->size();
  out.value = 0;
  out.gradient.fill(0);
  for (size_t i = 0; i < rows_.size(); ++i) {
    LawCoordinates gradient{};
    const double loss = law_->loss(rows_[i], at, gradient);
    const double residual = std::log(loss) - log_losses_[i];
    if (!std::isfinite(residual)) {
      out.value = std::numeric_limits<double>::infinity();
      return;
    }
    const double distance = std::abs(residual);
    const bool is_square = distance <= delta_;
    out.value += weights_[i] * (is_square ? 0.5 * residual * residual : delta_ * (distance - 0.5 * delta_));
    const double slope = weights_[i] * (is_square ? residual : std::copysign(delta_, residual));
    for (int k = 0; k < size; ++k) out.gradient[k] += slope * (gradient[k] /= loss);
    if (!with_curvature) continue;
    const double weight = weights_[i] * (is_square ? 1 : delta_ / distance);
    for (int k = 0; k < size; ++k)
      for (int l = 0; l < size; ++l) out.hessian[k * size + l] += weight * gradient[k] * gradient[l];
  }
  if (fixed_) out.gradient[0] = 0;
}

Derivatives SmoothObjective::evaluate(const LawCoordinates& place, Curvature curvature) {
  auto at = place;
  if (fixed_) at[0] = *fixed_;
  Derivatives out;
  value_and_gradient(at, out, curvature == Curvature::reweighted);
  const int size = out.size, first = fixed_ ? 1 : 0;
  if (!std::isfinite(out.value)) return out;
  if (curvature == Curvature::exact) {
    constexpr double step = 1e-5;
    for (int k = first; k < size; ++k) {
      auto up = at, down = at;
      up[k] += step;
      down[k] -= step;
      Derivatives above, below;
      value_and_gradient(up, above, false);
      value_and_gradient(down, below, false);
      for (int l = 0; l < size; ++l) out.hessian[k * size + l] = (above.gradient[l] - below.gradient[l]) / (2 * step);
    }
    for (int k = 0; k < size; ++k)
      for (int l = 0; l < k; ++l)
        out.hessian[k * size + l] = out.hessian[l * size + k] =
            0.5 * (out.hessian[k * size + l] + out.hessian[l * size + k]);
  }
  if (fixed_)
    for (int k = 0; k < size; ++k) out.hessian[k] = out.hessian[k * size] = k == 0;
  return out;
}

LawCoordinates SmoothObjective::literature_gradient(const Derivatives& centred) const {
  auto gradient = centred.gradient;
  for (int i = 0; i < law_->size(); ++i) {
    const auto& parameter = law_->parameters[i];
    // What is held is ln A, so that a change of the exponent also changes the coordinate of the coefficient.
    if (parameter.scaled_by >= 0) gradient[parameter.scaled_by] -= parameter.centre * centred.gradient[i];
  }
  return gradient;
}

std::vector<LawCoordinates> starts_of(const SmoothObjective& objective) {
  const auto& law = objective.law();
  std::vector<double> losses;
  for (int i = 0; i < objective.num_points(); ++i) losses.push_back(objective.loss(i));
  const double lowest = *std::min_element(losses.begin(), losses.end());
  std::nth_element(losses.begin(), losses.begin() + static_cast<std::ptrdiff_t>(losses.size() / 2), losses.end());
  const double middle = losses[losses.size() / 2];
  std::vector<int> coefficients;
  for (int i = 1; i < law.size(); ++i)
    if (law.parameters[i].from.empty()) coefficients.push_back(i);
  std::vector<LawCoordinates> starts(1);
  for (int i = 1; i < law.size(); ++i) {
    if (law.parameters[i].from.empty()) continue;
    std::vector<LawCoordinates> more;
    for (const auto& start : starts)
      for (const double value : law.parameters[i].from) {
        more.push_back(start);
        more.back()[i] = value;
      }
    starts = std::move(more);
  }
  std::vector<LawCoordinates> all;
  for (const auto& start : starts)
    for (const double share : {0.9, 0.3}) {
      auto place = start;
      place[0] = objective.log_fixed_floor().value_or(std::log(share * lowest));
      const double rest = std::max(middle - std::exp(place[0]), 1e-3 * middle);
      // Terms are about 1 at the middle of the data when their coordinate is 0.
      for (const int i : coefficients) place[i] = std::log(rest / static_cast<double>(coefficients.size()));
      all.push_back(place);
      if (objective.log_fixed_floor()) break;
    }
  return all;
}

}  // namespace attnscale
