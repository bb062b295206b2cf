#include "data/hidden_markov_process.h"

#include <cmath>

namespace attnscale {
namespace {

HiddenMarkovProcess two_states(int stay_symbol, int leave_symbol) {
  // A stays or leaves with one half each; B returns with symbol 1. Stationary: A 2/3, B 1/3.
  HiddenMarkovProcess process{.num_states = 2, .num_symbols = 2, .joint = std::vector<double>(8)};
  const auto at = [&](int symbol, int from, int to) -> double& { return process.joint[(symbol * 2 + from) * 2 + to]; };
  at(stay_symbol, 0, 0) = 0.5;
  at(leave_symbol, 0, 1) = 0.5;
  at(1, 1, 0) = 1;
  process.stationary = {2.0 / 3, 1.0 / 3};
  return process;
}

}  // namespace

double HiddenMarkovProcess::observe(Belief& belief, int64_t symbol) const {
  Belief next(num_states);
  double total = 0;
  for (int64_t to = 0; to < num_states; ++to) {
    for (int64_t from = 0; from < num_states; ++from) next[to] += belief[from] * probability(symbol, from, to);
    total += next[to];
  }
  if (total <= 0) return 0;
  for (int64_t to = 0; to < num_states; ++to) belief[to] = next[to] / total;
  return total;
}

double HiddenMarkovProcess::symbol_entropy(const Belief& belief) const {
  double entropy = 0;
  for (int64_t symbol = 0; symbol < num_symbols; ++symbol) {
    double p = 0;
    for (int64_t from = 0; from < num_states; ++from)
      for (int64_t to = 0; to < num_states; ++to) p += belief[from] * probability(symbol, from, to);
    if (p > 0) entropy -= p * std::log(p);
  }
  return entropy;
}

bool HiddenMarkovProcess::unifilar() const {
  for (int64_t symbol = 0; symbol < num_symbols; ++symbol)
    for (int64_t from = 0; from < num_states; ++from) {
      int64_t ways = 0;
      for (int64_t to = 0; to < num_states; ++to) ways += probability(symbol, from, to) > 0;
      if (ways > 1) return false;
    }
  return true;
}

HiddenMarkovProcess mess3(double x, double a) {
  const double y = 1 - 2 * x, b = (1 - a) / 2;
  HiddenMarkovProcess process{.num_states = 3, .num_symbols = 3};
  for (int symbol = 0; symbol < 3; ++symbol)
    for (int from = 0; from < 3; ++from)
      for (int to = 0; to < 3; ++to) process.joint.push_back((from == to ? y : x) * (to == symbol ? a : b));
  process.stationary = {1.0 / 3, 1.0 / 3, 1.0 / 3};
  return process;
}

HiddenMarkovProcess even_process() { return two_states(0, 1); }

HiddenMarkovProcess golden_mean_process() { return two_states(1, 0); }

}  // namespace attnscale
