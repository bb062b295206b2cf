#include "data/dirichlet_statistics.h"

#include <algorithm>
#include <numbers>
#include <vector>

#include "data/random.h"

namespace attnscale {
namespace {

/// Derivative of ln Gamma for x > 0: the recurrence up to 10, then the asymptotic series, whose
/// first neglected term is below 1e-13 there.
double digamma(double x) {
  double result = 0;
  for (; x < 10; x += 1) result -= 1 / x;
  const double s = 1 / (x * x);
  return result + std::log(x) - 0.5 / x - s * (1. / 12 - s * (1. / 120 - s * (1. / 252 - s * (1. / 240 - s / 132))));
}

double positive_uniform(Random& random) { return 1 - random.uniform(); }  // (0, 1]

double normal(Random& random) {
  const double radius = std::sqrt(-2 * std::log(positive_uniform(random)));
  return radius * std::cos(2 * std::numbers::pi * random.uniform());
}

/// ln of a Gamma(shape, 1) draw. Marsaglia and Tsang 2000, ACM TOMS 26(3); below shape 1 by the
/// factor U^(1 / shape) (their section 6), in logarithms because it underflows.
double log_gamma_draw(double shape, Random& random) {
  if (shape < 1) {
    const double factor = std::log(positive_uniform(random)) / shape;
    return factor + log_gamma_draw(shape + 1, random);
  }
  const double d = shape - 1. / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = normal(random), v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    if (std::log(positive_uniform(random)) < x * x / 2 + d - d * v + d * std::log(v)) return std::log(d * v);
  }
}

/// One row from the Dirichlet distribution.
void draw_row(double alpha, Random& random, double* row, int64_t size) {
  double highest = -INFINITY, total = 0;
  for (int64_t j = 0; j < size; ++j) highest = std::max(highest, row[j] = log_gamma_draw(alpha, random));
  for (int64_t j = 0; j < size; ++j) total += row[j] = std::exp(row[j] - highest);
  for (int64_t j = 0; j < size; ++j) row[j] /= total;
}

double entropy(const double* row, int64_t size) {
  double sum = 0;
  for (int64_t j = 0; j < size; ++j)
    if (row[j] > 0) sum -= row[j] * std::log(row[j]);
  return sum;
}

/// Stationary distribution by state reduction, which subtracts nothing and so stays accurate for
/// nearly reducible chains. Source: Grassmann, Taksar and Heyman 1985, Operations Research 33(5).
/// @param chain  [V, V] rows of probabilities; overwritten
std::vector<double> stationary(std::vector<double>& chain, int64_t size) {
  for (int64_t n = size - 1; n > 0; --n) {
    double leaving = 0;
    for (int64_t j = 0; j < n; ++j) leaving += chain[n * size + j];
    for (int64_t i = 0; i < n; ++i) {
      const double factor = chain[i * size + n] /= leaving;
      for (int64_t j = 0; j < n; ++j) chain[i * size + j] += factor * chain[n * size + j];
    }
  }
  std::vector<double> pi(size);
  double total = pi[0] = 1;
  for (int64_t n = 1; n < size; ++n) {
    for (int64_t i = 0; i < n; ++i) pi[n] += pi[i] * chain[i * size + n];
    total += pi[n];
  }
  for (double& p : pi) p /= total;
  return pi;
}

}  // namespace

double iid_bayes_loss(int64_t num_symbols, double alpha, int64_t seen) {
  const double t = static_cast<double>(seen), others = (num_symbols - 1) * alpha, total = t + num_symbols * alpha;
  // ln P(n) of the beta-binomial, from n = 0 upwards by the ratio of neighbours.
  double log_p = std::lgamma(t + others) - std::lgamma(others) - std::lgamma(total) + std::lgamma(num_symbols * alpha);
  double sum = 0;
  for (int64_t n = 0; n <= seen; ++n) {
    sum += std::exp(log_p) * (n + alpha) * std::log(n + alpha);
    if (n < seen) log_p += std::log((t - n) * (n + alpha) / ((n + 1) * (t - n - 1 + others)));
  }
  return std::log(total) - num_symbols * sum / total;
}

double dirichlet_mean_entropy(int64_t num_symbols, double alpha) {
  return digamma(num_symbols * alpha + 1) - digamma(alpha + 1);
}

Estimate markov_entropy_rate(int64_t num_symbols, double alpha) {
  const int64_t size = num_symbols, work = size * size * (40 + size / 3);
  const int64_t chains = std::clamp<int64_t>(60'000'000 / work, 50, 20000);
  const double mean_entropy = dirichlet_mean_entropy(size, alpha);
  Random random(0x6d61726b);  // any constant: the estimate must be the same in every run
  Estimate estimate;
  std::vector<double> chain(size * size), entropies(size);
  for (int64_t draw = 0; draw < chains; ++draw) {
    for (int64_t i = 0; i < size; ++i) {
      draw_row(alpha, random, chain.data() + i * size, size);
      entropies[i] = entropy(chain.data() + i * size, size);
    }
    const auto pi = stationary(chain, size);
    double excess = 0;
    for (int64_t i = 0; i < size; ++i) excess += (pi[i] - 1.0 / static_cast<double>(size)) * entropies[i];
    estimate.add(mean_entropy + excess);
  }
  return estimate;
}

}  // namespace attnscale
