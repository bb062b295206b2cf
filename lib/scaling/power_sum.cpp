#include "scaling/power_sum.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

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
  find_cells();
  sort_cells();
  sum_cells();
}

void PowerSumObjective::find_cells() {
  std::map<std::array<int, max_terms>, size_t> number;
  for (int i = 0; i < num_points(); ++i) {
    std::array<int, max_terms> x{};
    for (int k = 0; k < num_terms(); ++k) x[k] = index_[k][i];
    const auto [found, is_new] = number.emplace(x, cells_.size());
    if (is_new) cells_.emplace_back().x = x;
    cells_[found->second].points.push_back(i);
  }
}

void PowerSumObjective::sort_cells() {
  for (auto& cell : cells_) {
    std::sort(cell.points.begin(), cell.points.end(), [&](int a, int b) {
      return log_losses_[a] < log_losses_[b] || (log_losses_[a] == log_losses_[b] && a < b);
    });
    cell.centre = log_losses_[cell.points[cell.points.size() / 2]];
    cell.losses.clear();
    for (const int i : cell.points) cell.losses.push_back(log_losses_[i] - cell.centre);
  }
}

void PowerSumObjective::sum_cells() {
  for (auto& cell : cells_) {
    const size_t size = cell.points.size();
    for (auto* sums : {&cell.weight, &cell.linear, &cell.square}) sums->assign(size + 1, 0.0);
    for (size_t j = 0; j < size; ++j) {
      const double weight = weights_[cell.points[j]], loss = cell.losses[j];
      cell.weight[j + 1] = cell.weight[j] + weight;
      cell.linear[j + 1] = cell.linear[j] + weight * loss;
      cell.square[j + 1] = cell.square[j] + weight * loss * loss;
    }
  }
}

void PowerSumObjective::set_weights(std::vector<double> weights) {
  weights_ = std::move(weights);
  sum_cells();
}

void PowerSumObjective::set_log_losses(std::vector<double> values) {
  log_losses_ = std::move(values);
  sort_cells();
  sum_cells();
}

PowerSumObjective::CellSums PowerSumObjective::sums_of(const Cell& cell, double log_prediction) const {
  const double at = log_prediction - cell.centre;  // residuals are at - loss
  const auto place = [&](auto found) { return static_cast<size_t>(found - cell.losses.begin()); };
  // [0, low) lie more than delta below the prediction, [high, size) more than delta above it.
  const size_t low = place(std::lower_bound(cell.losses.begin(), cell.losses.end(), at - delta_));
  const size_t high =
      place(std::upper_bound(cell.losses.begin() + static_cast<std::ptrdiff_t>(low), cell.losses.end(), at + delta_));
  const size_t size = cell.losses.size();
  CellSums sums;
  const auto tail = [&](size_t from, size_t to, double sign) {
    const double weight = cell.weight[to] - cell.weight[from];
    if (weight <= 0) return;
    const double distance = sign * (weight * at - (cell.linear[to] - cell.linear[from]));  // sum of |residual|
    sums.value += delta_ * (distance - 0.5 * delta_ * weight);
    sums.slope += sign * delta_ * weight;
    sums.reweighted += delta_ * weight * weight / distance;
  };
  tail(0, low, 1);
  tail(high, size, -1);
  const double weight = cell.weight[high] - cell.weight[low];
  const double linear = cell.linear[high] - cell.linear[low], square = cell.square[high] - cell.square[low];
  sums.value += 0.5 * std::max(0.0, weight * at * at - 2 * at * linear + square);
  sums.slope += weight * at - linear;
  sums.inside = weight;
  sums.reweighted += weight;
  return sums;
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
  for (const auto& cell : cells_) {
    if (cell.weight.back() == 0) continue;
    share[0] = floor;
    double sum = floor;
    for (int k = 0; k < terms; ++k) sum += share[1 + k] = powers_[k][cell.x[k]];
    const double log_prediction = std::log(sum);
    if (!std::isfinite(log_prediction - cell.centre)) {
      out.value = std::numeric_limits<double>::infinity();
      return out;
    }
    const auto sums = sums_of(cell, log_prediction);
    out.value += sums.value;
    const double slope = sums.slope;

    // With eta_k the logarithm of component k: d ln(sum) / d eta_k = share_k, and
    // d2 ln(sum) / d eta_k d eta_l = share_k (k == l) - share_k share_l.
    const bool exact = curvature == Curvature::exact;
    const double product = exact ? sums.inside - slope : sums.reweighted;
    const double diagonal = exact ? slope : 0;
    for (int k = 0; k <= terms; ++k) share[k] /= sum;
    for (int k = 0; k < terms; ++k) ln_x[1 + k] = distinct_[k][cell.x[k]];
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
