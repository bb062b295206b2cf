// H(X_t | X_0 .. X_{t-1}) of a hidden Markov process, without simulation.
//
// The future of a process depends on the past only through the belief over hidden states, so h_t is
// the mean of symbol_entropy over the beliefs after t symbols. Some processes reach a handful of
// beliefs: count them. Mess3 reaches 3^t: there, propagate the function instead of its arguments,
//   h_t = f_t(stationary), f_0 = symbol_entropy, f_{t+1}(belief) = sum_k p(k | belief) f_t(belief after k),
// with f_t held as a polynomial on the simplex. It is analytic where no symbol is impossible, so
// the error falls geometrically with the degree; the degree is raised until the answer stands still.

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <optional>
#include <stdexcept>

#include "data/hidden_markov_process.h"

namespace attnscale {
namespace {

constexpr size_t kMostBeliefs = 64;
constexpr double kMergeDistance = 1e-12;     // far above rounding, far below any real difference
constexpr double kStandstill = 1e-13;        // of h_t, from one t to the next
constexpr int64_t kLongestIteration = 5000;  // for processes that forget slowly
constexpr double kWantedError = 1e-9;

/// Distinct beliefs with the probability of being there.
using BeliefMasses = std::map<std::vector<int64_t>, std::pair<Belief, double>>;

void add_mass(BeliefMasses& masses, const Belief& belief, double mass) {
  std::vector<int64_t> cell;
  for (const double p : belief) cell.push_back(std::llround(p / kMergeDistance));
  auto [found, fresh] = masses.try_emplace(cell, belief, 0.0);
  found->second.second += mass;
}

/// Extends h_t until t >= context and h stands still, by `step` (which returns h at the next t).
template <class Step>
ConditionalEntropies iterate(int64_t context, const Step& step) {
  ConditionalEntropies result;
  auto& h = result.by_position;
  // Standing still must last: the Even process pauses on every other t before it goes on.
  for (int still = 0; still < 4 && static_cast<int64_t>(h.size()) < kLongestIteration + 1;) {
    h.push_back(step());
    still = h.size() > 1 && std::abs(h.back() - h[h.size() - 2]) < kStandstill ? still + 1 : 0;
  }
  result.entropy_rate = h.back();
  h.resize(context + 1, h.back());
  return result;
}

std::optional<ConditionalEntropies> by_counting_beliefs(const HiddenMarkovProcess& process, int64_t context) {
  BeliefMasses masses;
  add_mass(masses, process.stationary, 1);
  bool too_many = false;
  auto result = iterate(context, [&] {
    double entropy = 0;
    BeliefMasses next;
    for (const auto& [cell, entry] : masses) {
      const auto& [belief, mass] = entry;
      entropy += mass * process.symbol_entropy(belief);
      for (int64_t symbol = 0; symbol < process.num_symbols && !too_many; ++symbol) {
        Belief after = belief;
        if (const double p = process.observe(after, symbol); p > 0) add_mass(next, after, mass * p);
        too_many = next.size() > kMostBeliefs;
      }
    }
    masses = std::move(next);
    return entropy;
  });
  if (too_many) return std::nullopt;
  return result;
}

/// Interpolation on [0, 1] at n Chebyshev points, barycentric form.
/// Source: Berrut and Trefethen 2004, SIAM Review 46(3), section 5.
class Chebyshev {
 public:
  explicit Chebyshev(int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      const double angle = std::numbers::pi * (i + 0.5) / n;
      nodes.push_back((1 - std::cos(angle)) / 2);
      weights_.push_back((i % 2 ? -1 : 1) * std::sin(angle));
    }
  }

  /// Factors of the node values in the interpolated value at `u`; they sum to one.
  std::vector<double> factors(double u) const {
    std::vector<double> result(nodes.size());
    double sum = 0;
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (std::abs(u - nodes[i]) < 1e-15) {
        std::fill(result.begin(), result.end(), 0.0);
        result[i] = 1;
        return result;
      }
      sum += result[i] = weights_[i] / (u - nodes[i]);
    }
    for (double& factor : result) factor /= sum;
    return result;
  }

  std::vector<double> nodes;

 private:
  std::vector<double> weights_;
};

/// Functions of a three-state belief as n x n values, in u = b_0 and v = b_1 / (1 - b_0): a square
/// instead of the triangle, and a polynomial in the belief stays one of the same degree.
class SimplexFunctions {
 public:
  explicit SimplexFunctions(int64_t n) : axis_(n) {}

  int64_t size() const { return static_cast<int64_t>(axis_.nodes.size() * axis_.nodes.size()); }

  Belief belief(int64_t node) const {
    const int64_t n = static_cast<int64_t>(axis_.nodes.size());
    const double u = axis_.nodes[node / n], v = axis_.nodes[node % n];
    return {u, (1 - u) * v, (1 - u) * (1 - v)};
  }

  /// Adds scale * (factors of the node values in the value at `belief`) to a row of size().
  void add_factors(const Belief& belief, double scale, double* row) const {
    const double rest = belief[1] + belief[2];
    const auto in_u = axis_.factors(belief[0]), in_v = axis_.factors(rest > 0 ? belief[1] / rest : 0.5);
    for (size_t i = 0; i < in_u.size(); ++i)
      for (size_t j = 0; j < in_v.size(); ++j) row[i * in_v.size() + j] += scale * in_u[i] * in_v[j];
  }

 private:
  Chebyshev axis_;
};

ConditionalEntropies on_simplex(const HiddenMarkovProcess& process, int64_t context, int64_t n) {
  const SimplexFunctions functions(n);
  const int64_t size = functions.size();
  std::vector<double> step(size * size), f(size), next(size), at_start(size);
  for (int64_t node = 0; node < size; ++node) {
    const Belief belief = functions.belief(node);
    f[node] = process.symbol_entropy(belief);
    for (int64_t symbol = 0; symbol < process.num_symbols; ++symbol) {
      Belief after = belief;
      const double p = process.observe(after, symbol);
      functions.add_factors(after, p, step.data() + node * size);
    }
  }
  functions.add_factors(process.stationary, 1, at_start.data());
  const auto dot = [size](const double* a, const std::vector<double>& b) {
    double sum[4] = {};  // four chains, so that additions overlap
    int64_t i = 0;
    for (; i + 4 <= size; i += 4)
      for (int lane = 0; lane < 4; ++lane) sum[lane] += a[i + lane] * b[i + lane];
    for (; i < size; ++i) sum[0] += a[i] * b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  };
  return iterate(context, [&] {
    const double h = dot(at_start.data(), f);
    for (int64_t node = 0; node < size; ++node) next[node] = dot(step.data() + node * size, f);
    std::swap(f, next);
    return h;
  });
}

double largest_difference(const ConditionalEntropies& a, const ConditionalEntropies& b) {
  double difference = std::abs(a.entropy_rate - b.entropy_rate);
  for (size_t t = 0; t < a.by_position.size(); ++t)
    difference = std::max(difference, std::abs(a.by_position[t] - b.by_position[t]));
  return difference;
}

}  // namespace

ConditionalEntropies conditional_entropies(const HiddenMarkovProcess& process, int64_t context) {
  if (auto exact = by_counting_beliefs(process, context)) return *exact;
  if (process.num_states != 3) throw std::logic_error("conditional_entropies: many beliefs need three states");
  auto coarse = on_simplex(process, context, 10);
  for (const int64_t n : {20, 30, 44}) {
    auto fine = on_simplex(process, context, n);
    fine.error = largest_difference(coarse, fine);  // the coarse one's error: the fine one's is smaller
    if (fine.error < kWantedError) {
      fine.error = 0;
      return fine;
    }
    coarse = std::move(fine);
  }
  return coarse;
}

}  // namespace attnscale
