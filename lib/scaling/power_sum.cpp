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

PowerSumObjective::PowerSumObjective(const std::vector<std::vector<double>>& x, const std::vector<double>& losses,
                                     double delta, std::optional<double> fixed_floor)
    : weights_(losses.size(), 1.0), delta_(delta), floor_is_free_(!fixed_floor) {
  std::vector<std::vector<int>> index;  // [K][P] into distinct_
  if (fixed_floor) log_fixed_floor_ = std::log(*fixed_floor);
  for (const double loss : losses) log_losses_.push_back(std::log(loss));
  for (const auto& column : x) {
    std::vector<double> logs;
    for (const double value : column) logs.push_back(std::log(value));
    auto distinct = logs;
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    auto& places = index.emplace_back();
    double mean = 0;
    for (const double value : logs) {
      places.push_back(static_cast<int>(std::lower_bound(distinct.begin(), distinct.end(), value) - distinct.begin()));
      mean += value / static_cast<double>(logs.size());
    }
    for (double& value : distinct) value -= mean;
    centres_.push_back(mean);
    powers_.emplace_back(distinct.size());
    distinct_.push_back(std::move(distinct));
  }
  find_cells(index);
  sort_cells();
  sum_cells();
}

void PowerSumObjective::find_cells(const std::vector<std::vector<int>>& index) {
  std::map<std::array<int, max_terms>, std::vector<int>> members;
  std::vector<std::vector<int>*> order;  // as they appear
  for (int i = 0; i < num_points(); ++i) {
    std::array<int, max_terms> x{};
    for (int k = 0; k < num_terms(); ++k) x[k] = index[k][i];
    auto& points = members[x];
    if (points.empty()) {
      cells_.emplace_back().x = x;
      order.push_back(&points);
    }
    points.push_back(i);
  }
  for (size_t c = 0; c < cells_.size(); ++c) {
    cells_[c].begin = points_.size();
    cells_[c].size = order[c]->size();
    cells_[c].sums = points_.size() + c;  // one more sum than points in each cell before
    points_.insert(points_.end(), order[c]->begin(), order[c]->end());
  }
  relative_.resize(points_.size());
  for (auto* sums : {&weight_sums_, &linear_sums_, &square_sums_}) sums->resize(points_.size() + cells_.size());
}

void PowerSumObjective::sort_cells() {
  for (auto& cell : cells_) {
    const auto first = points_.begin() + static_cast<std::ptrdiff_t>(cell.begin);
    if (cell.size > 1)
      std::sort(first, first + static_cast<std::ptrdiff_t>(cell.size), [&](int a, int b) {
        return log_losses_[a] < log_losses_[b] || (log_losses_[a] == log_losses_[b] && a < b);
      });
    cell.centre = log_losses_[points_[cell.begin + cell.size / 2]];
    for (size_t j = cell.begin; j < cell.begin + cell.size; ++j) relative_[j] = log_losses_[points_[j]] - cell.centre;
  }
}

void PowerSumObjective::sum_cells() {
  for (auto& cell : cells_) {
    double weight = 0, linear = 0, square = 0;
    for (size_t j = 0; j < cell.size; ++j) {
      const double each = weights_[points_[cell.begin + j]], loss = relative_[cell.begin + j];
      weight_sums_[cell.sums + j + 1] = weight += each;
      linear_sums_[cell.sums + j + 1] = linear += each * loss;
      square_sums_[cell.sums + j + 1] = square += each * loss * loss;
    }
    cell.weight = weight;
  }
}

void PowerSumObjective::set_weights(std::vector<double> weights) {
  weights_ = std::move(weights);
  sum_cells();
}

void PowerSumObjective::drop_weightless() {
  std::erase_if(cells_, [](const Cell& cell) { return cell.weight == 0; });
  // What no remaining cell needs is not exponentiated either.
  for (int k = 0; k < num_terms(); ++k) {
    std::vector<int> place(distinct_[k].size(), -1);
    std::vector<double> kept;
    for (auto& cell : cells_) {
      auto& x = cell.x[k];
      if (place[x] < 0) {
        place[x] = static_cast<int>(kept.size());
        kept.push_back(distinct_[k][x]);
      }
      x = place[x];
    }
    distinct_[k] = std::move(kept);
    powers_[k].resize(distinct_[k].size());
  }
}

void PowerSumObjective::set_log_losses(std::vector<double> values) {
  log_losses_ = std::move(values);
  sort_cells();
  sum_cells();
}

PowerSumObjective::CellSums PowerSumObjective::sums_of(const Cell& cell, double log_prediction) const {
  const double at = log_prediction - cell.centre;  // residuals are at - loss
  const auto first = relative_.begin() + static_cast<std::ptrdiff_t>(cell.begin);
  const auto last = first + static_cast<std::ptrdiff_t>(cell.size);
  // [0, low) lie more than delta below the prediction, [high, size) more than delta above it.
  const auto above_low = std::lower_bound(first, last, at - delta_);
  const auto low = static_cast<size_t>(above_low - first);
  const auto high = static_cast<size_t>(std::upper_bound(above_low, last, at + delta_) - first);
  const auto between = [&](const std::vector<double>& sums, size_t from, size_t to) {
    return sums[cell.sums + to] - sums[cell.sums + from];
  };
  CellSums sums;
  const auto tail = [&](size_t from, size_t to, double sign) {
    const double weight = between(weight_sums_, from, to);
    if (weight <= 0) return;
    const double distance = sign * (weight * at - between(linear_sums_, from, to));  // sum of |residual|
    sums.value += delta_ * (distance - 0.5 * delta_ * weight);
    sums.slope += sign * delta_ * weight;
    sums.reweighted += delta_ * weight * weight / distance;
  };
  if (low > 0) tail(0, low, 1);
  if (high < cell.size) tail(high, cell.size, -1);
  if (low == high) return sums;
  const double weight = between(weight_sums_, low, high), linear = between(linear_sums_, low, high);
  sums.value += 0.5 * std::max(0.0, weight * at * at - 2 * at * linear + between(square_sums_, low, high));
  sums.slope += weight * at - linear;
  sums.inside = weight;
  sums.reweighted += weight;
  return sums;
}

LawCoordinates PowerSumObjective::to_coordinates(const PowerSum& law) const {
  LawCoordinates at{};
  at[0] = floor_is_free_ ? law.log_floor : log_fixed_floor_;
  for (int k = 0; k < num_terms(); ++k) {
    at[1 + 2 * k] = law.terms[k].log_coefficient - law.terms[k].exponent * centres_[k];
    at[2 + 2 * k] = law.terms[k].exponent;
  }
  return at;
}

PowerSum PowerSumObjective::from_coordinates(const LawCoordinates& at) const {
  PowerSum law{.log_floor = at[0], .terms = {}};
  for (int k = 0; k < num_terms(); ++k)
    law.terms.push_back({.log_coefficient = at[1 + 2 * k] + at[2 + 2 * k] * centres_[k], .exponent = at[2 + 2 * k]});
  return law;
}

void PowerSumObjective::exponentiate(const LawCoordinates& at) {
  for (int k = 0; k < num_terms(); ++k)
    for (size_t j = 0; j < distinct_[k].size(); ++j)
      powers_[k][j] = std::exp(at[1 + 2 * k] - at[2 + 2 * k] * distinct_[k][j]);
}

Derivatives PowerSumObjective::evaluate(const LawCoordinates& at, Curvature curvature) {
  exponentiate(at);
  const int terms = num_terms(), size = 1 + 2 * terms;
  const double floor = std::exp(at[0]);
  Derivatives out;
  out.size = size;
  double share[1 + max_terms], ln_x[1 + max_terms] = {};  // a component's share of the prediction; its ln x
  for (const auto& cell : cells_) {
    if (cell.weight == 0) continue;
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
    for (int j = 0; j < size; ++j) out.hessian[j] = out.hessian[j * size] = j == 0;
  }
  return out;
}

LawCoordinates PowerSumObjective::literature_gradient(const Derivatives& centred) const {
  // ln term at centre = ln A - alpha centre, so that alpha also moves it when ln A is held.
  auto gradient = centred.gradient;
  for (int k = 0; k < num_terms(); ++k) gradient[2 + 2 * k] -= centres_[k] * gradient[1 + 2 * k];
  return gradient;
}

std::vector<double> PowerSumObjective::log_predictions(const LawCoordinates& at) {
  exponentiate(at);
  std::vector<double> result(log_losses_.size());
  for (const auto& cell : cells_) {
    double sum = std::exp(at[0]);
    for (int k = 0; k < num_terms(); ++k) sum += powers_[k][cell.x[k]];
    for (size_t j = 0; j < cell.size; ++j) result[points_[cell.begin + j]] = std::log(sum);
  }
  return result;
}

std::vector<std::array<double, max_parameters>> PowerSumObjective::log_jacobian(const LawCoordinates& at) {
  const auto predictions = log_predictions(at);
  std::vector<std::array<double, max_parameters>> rows(predictions.size());
  for (const auto& cell : cells_) {
    const double prediction = std::exp(predictions[points_[cell.begin]]);
    std::array<double, max_parameters> row{};
    if (floor_is_free_) row[0] = std::exp(at[0]) / prediction;
    for (int k = 0; k < num_terms(); ++k) {
      const double share = powers_[k][cell.x[k]] / prediction;
      row[1 + 2 * k] = share;
      row[2 + 2 * k] = -share * distinct_[k][cell.x[k]];
    }
    for (size_t j = 0; j < cell.size; ++j) rows[points_[cell.begin + j]] = row;
  }
  return rows;
}

}  // namespace attnscale
