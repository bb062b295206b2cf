#pragma once

#include <cstdint>
#include <vector>

// S states, K symbols. A belief is the distribution over hidden states given the symbols seen.

namespace attnscale {

using Belief = std::vector<double>;  // [S]

/// A process that moves from state i to j while emitting symbol k, with probability T_k[i][j].
struct HiddenMarkovProcess {
  int64_t num_states = 0, num_symbols = 0;
  std::vector<double> joint = {};  ///< [K, S, S]: T_k[i][j]
  Belief stationary = {};          ///< [S]

  double probability(int64_t symbol, int64_t from, int64_t to) const {
    return joint[(symbol * num_states + from) * num_states + to];
  }

  /// Forward filter: p(symbol | belief). `belief` becomes the belief after the symbol, normalised;
  /// it stays as it was when the symbol is impossible.
  double observe(Belief& belief, int64_t symbol) const;

  /// Entropy of the next symbol given a belief, nats.
  double symbol_entropy(const Belief& belief) const;

  /// Whether a state and a symbol determine the next state.
  bool unifilar() const;
};

/// Mess3: three states, three symbols. T_k[i][j] = (y if i = j else x) (a if j = k else b) with
/// y = 1 - 2x, b = (1 - a) / 2; stationary distribution uniform.
/// Source: Marzen and Crutchfield 2017, arXiv:1702.08565; used on transformers by Shai et al. 2024,
/// arXiv:2405.15943.
HiddenMarkovProcess mess3(double x, double a);

/// Even process: state A emits 0 and stays or 1 and goes to B, half the time each; B emits 1 and
/// returns. Ones come in even runs: no finite context tells the state for sure.
/// Source: Weiss 1973; Crutchfield and Feldman 2003, arXiv:cond-mat/0102181.
HiddenMarkovProcess even_process();

/// Golden Mean: state A emits 1 and stays or 0 and goes to B, half the time each; B emits 1 and
/// returns. No two zeros in a row; Markov of order 1. Source: as the Even process.
HiddenMarkovProcess golden_mean_process();

/// How well the ideal predictor does as it sees more: h_t = H(X_t | X_0 .. X_{t-1}), nats, for
/// windows that start from the stationary distribution.
struct ConditionalEntropies {
  std::vector<double> by_position;  ///< h_0 .. h_context
  double entropy_rate = 0;          ///< limit of h_t
  double error = 0;                 ///< bound seen on any of these; 0 when below 1e-9
};

/// Exact where the beliefs that can arise are few (they are merged and counted with their mass);
/// otherwise, for three states, by propagating the entropy function on the belief simplex.
/// Cost: milliseconds in the first case, up to a quarter of a second in the second.
ConditionalEntropies conditional_entropies(const HiddenMarkovProcess& process, int64_t context);

}  // namespace attnscale
