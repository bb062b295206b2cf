#include "scaling/power_sum.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace attnscale {

double PowerSum::at(const std::vector<double>& x) const {
  double loss = std::exp(log_floor);
  for (size_t k = 0; k < terms.size(); ++k)
    loss += std::exp(terms[k].log_coefficient - terms[k].exponent * std::log(x[k]));
  return loss;
}

double Derivatives::gradient_norm() const {
  double largest = 0;
  for (int i = 0; i < size; ++i) largest = std::max(largest, std::abs(gradient[i]));
  return largest;
}

PowerSumObjective::PowerSumObjective(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                                     double delta, std::optional<double> fixed_floor)
    : weights_(losses.size(), 1.0), delta_(delta), floor_is_free_(!fixed_floor) {
  if (fixed_floor) log_fixed_floor_ = std::log(*fixed_floor);
  for (const double loss : losses) log_losses_.push_back(std::log(loss));
  for (const auto& column : x) {
    std::vector<double> logs;
    for (const double value : column) logs.push_back(std::log(value));
    auto distinct = logs;
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    std::vector<int> index;
    double mean = 0;
    for (const double value : logs) {
      index.push_back(static_cast<int>(std::lower_bound(distinct.begin(), distinct.end(), value) - distinct.begin()));
      mean += value / static_cast<double>(logs.size());
    }
    for (double& value : distinct) value -= mean;
    centres_.push_back(mean);
    powers_.emplace_back(distinct.size());
    distinct_.push_back(std::move(distinct));
    index_.push_back(std::move(index));
  }
}

PowerSumObjective::Coordinates PowerSumObjective::to_coordinates(const PowerSum& law) const {
  Coordinates at{};
  at[0] = floor_is_free_ ? law.log_floor : log_fixed_floor_;
  for (int k = 0; k < num_terms(); ++k) {
    at[1 + 2 * k] = law.terms[k].log_coefficient - law.terms[k].exponent * centres_[k];
    at[2 + 2 * k] = law.terms[k].exponent;
  }
  return at;
}

PowerSum PowerSumObjective::from_coordinates(const Coordinates& at) const {
  PowerSum law{.log_floor = at[0], .terms = {}};
  for (int k = 0; k < num_terms(); ++k)
    law.terms.push_back({.log_coefficient = at[1 + 2 * k] + at[2 + 2 * k] * centres_[k], .exponent = at[2 + 2 * k]});
  return law;
}

void PowerSumObjective::exponentiate(const Coordinates& at) {
  for (int k = 0; k < num_terms(); ++k)
    for (size_t j = 0; j < distinct_[k].size(); ++j)
      powers_[k][j] = std::exp(at[1 + 2 * k] - at[2 + 2 * k] * distinct_[k][j]);
}

Derivatives PowerSumObjective::evaluate(const Coordinates& at, Curvature curvature) {
  exponentiate(at);
  const int terms = num_terms(), size = 1 + 2 * terms;
  const double floor = std::exp(at[0]);
  Derivatives out;
  out.size = size;
  double share[1 + max_terms], ln_x[1 + max_terms] = {};  // a component's share of the prediction; its ln x
  for (int i = 0; i < num_points(); ++i) {
    if (weights_[i] == 0) continue;
    share[0] = floor;
    double sum = floor;
    for (int k = 0; k < terms; ++k) sum += share[1 + k] = powers_[k][index_[k][i]];
    const double residual = std::log(sum) - log_losses_[i];
    if (!std::isfinite(residual)) {
      out.value = std::numeric_limits<double>::infinity();
      return out;
    }
    const double size_of_residual = std::abs(residual);
    const bool square = size_of_residual <= delta_;
    const double weight = weights_[i];
    out.value += weight * (square ? 0.5 * residual * residual : delta_ * (size_of_residual - 0.5 * delta_));
    const double slope = weight * (square ? residual : std::copysign(delta_, residual));  // Huber's psi

    // With eta_k the logarithm of component k: d ln(sum) / d eta_k = share_k, and
    // d2 ln(sum) / d eta_k d eta_l = share_k (k == l) - share_k share_l.
    double product, diagonal;
    if (curvature == Curvature::exact) {
      product = (square ? weight : 0.0) - slope;
      diagonal = slope;
    } else {
      product = weight * (square ? 1.0 : delta_ / size_of_residual);
      diagonal = 0;
    }
    for (int k = 0; k <= terms; ++k) share[k] /= sum;
    for (int k = 0; k < terms; ++k) ln_x[1 + k] = distinct_[k][index_[k][i]];
    out.gradient[0] += slope * share[0];
    out.hessian[0] += (product * share[0] + diagonal) * share[0];
    for (int k = 1; k <= terms; ++k) {
      const int row = 2 * k - 1;  // of ln A_k; alpha_k follows it
      out.gradient[row] += slope * share[k];
      out.gradient[row + 1] -= slope * share[k] * ln_x[k];
      const double with_floor = product * share[k] * share[0];
      out.hessian[row] += with_floor;
      out.hessian[row + 1] -= with_floor * ln_x[k];
      for (int l = k; l <= terms; ++l) {
        const int column = 2 * l - 1;
        const double both = (product * share[l] + (k == l ? diagonal : 0.0)) * share[k];
        out.hessian[row * size + column] += both;
        out.hessian[row * size + column + 1] -= both * ln_x[l];
        out.hessian[(row + 1) * size + column] -= both * ln_x[k];
        out.hessian[(row + 1) * size + column + 1] += both * ln_x[k] * ln_x[l];
      }
    }
  }
  for (int row = 0; row < size; ++row)
    for (int column = 0; column < row; ++column) out.hessian[row * size + column] = out.hessian[column * size + row];
  if (!floor_is_free_) {
    out.gradient[0] = 0;
    for (int i = 1; i < size; ++i) out.hessian[i] = out.hessian[i * size] = 0;
    out.hessian[0] = 1;
  }
  return out;
}

std::array<double, max_parameters> PowerSumObjective::literature_gradient(const Derivatives& centred) const {
  // ln term at centre = ln A - alpha centre, so that alpha also moves it when ln A is held.
  auto gradient = centred.gradient;
  for (int k = 0; k < num_terms(); ++k) gradient[2 + 2 * k] -= centres_[k] * gradient[1 + 2 * k];
  return gradient;
}

std::vector<double> PowerSumObjective::log_predictions(const Coordinates& at) {
  exponentiate(at);
  std::vector<double> result(log_losses_.size(), std::exp(at[0]));
  for (int k = 0; k < num_terms(); ++k)
    for (size_t i = 0; i < result.size(); ++i) result[i] += powers_[k][index_[k][i]];
  for (double& value : result) value = std::log(value);
  return result;
}

std::vector<std::array<double, max_parameters>> PowerSumObjective::log_jacobian(const Coordinates& at) {
  const auto predictions = log_predictions(at);
  std::vector<std::array<double, max_parameters>> rows(predictions.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const double prediction = std::exp(predictions[i]);
    rows[i] = {};
    if (floor_is_free_) rows[i][0] = std::exp(at[0]) / prediction;
    for (int k = 0; k < num_terms(); ++k) {
      const double share = powers_[k][index_[k][i]] / prediction;
      rows[i][1 + 2 * k] = share;
      rows[i][2 + 2 * k] = -share * distinct_[k][index_[k][i]];
    }
  }
  return rows;
}

}  // namespace attnscale
