#pragma once

#include <cmath>
#include <cstdint>

// Expectations under rows drawn from a symmetric Dirichlet distribution with concentration alpha
// over V symbols. All entropies and losses in nats.

namespace attnscale {

/// A mean with its standard error, by Welford's update.
struct Estimate {
  int64_t count = 0;
  double mean = 0, error = 0;

  void add(double value) {
    ++count;
    const double before = value - mean;
    mean += before / static_cast<double>(count);
    squares_ += before * (value - mean);
    if (count > 1) error = std::sqrt(squares_ / static_cast<double>(count - 1) / static_cast<double>(count));
  }

 private:
  double squares_ = 0;
};

/// Expected loss of the Bayes predictor on an i.i.d. token after `seen` tokens of the same row:
/// E[ln(t + V alpha) - sum_j (n_j + alpha) / (t + V alpha) ln(n_j + alpha)], n_j beta-binomial.
/// Exact. Cost O(seen).
double iid_bayes_loss(int64_t num_symbols, double alpha, int64_t seen);

/// Mean entropy of a row, psi(V alpha + 1) - psi(alpha + 1): the limit of `iid_bayes_loss`.
double dirichlet_mean_entropy(int64_t num_symbols, double alpha);

/// Mean entropy rate of Markov chains whose rows are independent draws: E[sum_i pi_i H_i], pi the
/// chain's stationary distribution. Simulated with a fixed seed, since pi depends on the rows; the
/// known mean of sum_i H_i / V is the control variate.
Estimate markov_entropy_rate(int64_t num_symbols, double alpha);

}  // namespace attnscale
