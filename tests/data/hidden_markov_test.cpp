#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "data/hidden_markov_process.h"
#include "sources_for_tests.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;

namespace {

/// Probability of a word by summing over every path of hidden states, from the documented T_k[i][j].
template <class Move>
double word_probability(const int64_t* word, int64_t length, const std::vector<double>& start, const Move& move) {
  const auto states = static_cast<int64_t>(start.size());
  const int64_t paths = std::llround(std::pow(states, length + 1));
  double total = 0;
  for (int64_t path = 0; path < paths; ++path) {
    int64_t rest = path, state = rest % states;
    double p = start[state];
    for (int64_t at = 0; at < length; ++at) {
      rest /= states;
      p *= move(word[at], state, rest % states);
      state = rest % states;
    }
    total += p;
  }
  return total;
}

struct Process {
  Json options;
  int64_t num_symbols;
  std::vector<double> start;
  std::function<double(int64_t symbol, int64_t from, int64_t to)> move;
  double entropy_rate;

  double probability(const int64_t* word, int64_t length) const { return word_probability(word, length, start, move); }
};

Process mess3_by_hand(double x, double a, double entropy_rate) {
  const auto move = [x, a](int64_t k, int64_t i, int64_t j) {
    return (i == j ? 1 - 2 * x : x) * (j == k ? a : (1 - a) / 2);
  };
  return {{{"x", x}, {"a", a}}, 3, {1. / 3, 1. / 3, 1. / 3}, move, entropy_rate};
}

/// Entropy rates: ours to 1e-6, as published with the processes; the last two are (2/3) ln 2, since two
/// thirds of the time the state is A, which decides by a fair coin.
const std::vector<Process>& processes() {
  static const std::vector<Process> list = {
      mess3_by_hand(0.05, 0.85, 0.793458),
      mess3_by_hand(0.15, 0.6, 1.088888),
      {{{"process", "even"}},
       2,
       {2. / 3, 1. / 3},
       [](int64_t k, int64_t i, int64_t j) { return i == 0 ? (j == k) * 0.5 : double(k == 1 && j == 0); },
       2. / 3 * std::log(2)},
      {{{"process", "golden_mean"}},
       2,
       {2. / 3, 1. / 3},
       [](int64_t k, int64_t i, int64_t j) { return i == 0 ? (j != k) * 0.5 : double(k == 1 && j == 0); },
       2. / 3 * std::log(2)}};
  return list;
}

}  // namespace

TEST_CASE("hidden_markov: Bayes probabilities equal the sum over all hidden paths") {
  for (const auto& process : processes()) {
    INFO(process.options.dump());
    constexpr int64_t kLength = 6;
    const auto source = make_source("hidden_markov", process.options);
    REQUIRE(source->vocab_size() == process.num_symbols);
    const Batch words = all_words(process.num_symbols, kLength);
    const auto scores = source->bayes_log_probabilities(words);
    int64_t checked = 0;
    for (int64_t row = 0; row < words.rows; row += 7) {
      const int64_t* word = words.tokens.data() + row * kLength;
      for (int64_t t = 1; t < kLength; ++t) {
        const double before = process.probability(word, t), with = process.probability(word, t + 1);
        if (before == 0) break;
        CHECK_THAT(std::exp(scores[row * (kLength - 1) + t - 1]), WithinAbs(with / before, 1e-13));  // rounding
        ++checked;
      }
    }
    CHECK(checked > 20);
  }
}

TEST_CASE("hidden_markov: words come up as often as the process says, from the first token on") {
  for (const auto& process : processes()) {
    INFO(process.options.dump());
    constexpr int64_t kWindows = 40000, kLength = 4;
    const auto source = make_source("hidden_markov", process.options);
    const Batch words = all_words(process.num_symbols, kLength);
    std::vector<double> probabilities;
    for (int64_t row = 0; row < words.rows; ++row)
      probabilities.push_back(process.probability(words.tokens.data() + row * kLength, kLength));
    // At most 81 words: the worst of them is beyond 4.5 standard errors once in 2000 seeds.
    CHECK(worst_deviation(word_counts(*source, kWindows, kLength), probabilities, kWindows) < 4.5);
  }
}

TEST_CASE("hidden_markov: the entropy rate is the published one") {
  for (const auto& process : processes()) {
    INFO(process.options.dump());
    const auto truth = make_source("hidden_markov", process.options)->truth(64).value();
    CHECK_THAT(truth.entropy_rate, WithinAbs(process.entropy_rate, 1e-6));  // published digits
    CHECK(truth.bayes_loss_error == 0);
    CHECK(truth.bayes_loss >= truth.entropy_rate - 1e-12);
  }
}

TEST_CASE("hidden_markov: the Bayes loss of a short window equals its block entropies") {
  for (const auto& process : processes()) {
    INFO(process.options.dump());
    for (const int64_t context : {1, 2, 5}) {
      // sum over t of H(X_t | X_0 .. X_t-1) = H(X_0 .. X_T) - H(X_0).
      const auto block_entropy = [&](int64_t length) {
        const Batch words = all_words(process.num_symbols, length);
        double entropy = 0;
        for (int64_t row = 0; row < words.rows; ++row) {
          const double p = process.probability(words.tokens.data() + row * length, length);
          if (p > 0) entropy -= p * std::log(p);
        }
        return entropy;
      };
      const double expected = (block_entropy(context + 1) - block_entropy(1)) / static_cast<double>(context);
      const auto truth = make_source("hidden_markov", process.options)->truth(context).value();
      CHECK_THAT(truth.bayes_loss, WithinAbs(expected, 1e-9));  // the accuracy that error 0 promises
    }
  }
}

TEST_CASE("hidden_markov: more context never hurts, and approaches the entropy rate") {
  for (const auto& process : processes()) {
    INFO(process.options.dump());
    const auto source = make_source("hidden_markov", process.options);
    double previous = INFINITY;
    for (const int64_t context : {1, 4, 16, 64, 256}) {
      const double loss = source->truth(context)->bayes_loss;
      CHECK(loss <= previous + 1e-9);
      previous = loss;
    }
    // The transient costs less than ln(states) in all: spread over 256 targets at most .0043 each.
    CHECK(previous - source->truth(1)->entropy_rate < std::log(3) / 256 + 1e-9);
  }
}

TEST_CASE("hidden_markov: processes with few beliefs are counted, which needs no polynomials") {
  // x = 1/3 forgets at once; a = 1 shows its state: independent and first-order symbols by hand.
  const auto forgetful = conditional_entropies(mess3(1. / 3, 0.7), 8);
  CHECK_THAT(forgetful.entropy_rate, WithinAbs(std::log(3), 1e-12));  // rounding
  const auto visible = conditional_entropies(mess3(0.1, 1), 8);
  const double row_entropy = -0.8 * std::log(0.8) - 2 * 0.1 * std::log(0.1);
  CHECK_THAT(visible.entropy_rate, WithinAbs(row_entropy, 1e-12));
  CHECK_THAT(visible.by_position[0], WithinAbs(std::log(3), 1e-12));
  CHECK_THAT(visible.by_position[1], WithinAbs(row_entropy, 1e-12));
}

TEST_CASE("hidden_markov: where polynomials are too coarse the stated error says so") {
  // Nearly deterministic symbols bring the singularity of p ln p close to the simplex. Reference: block
  // entropies, exact.
  const auto process = mess3_by_hand(0.002, 0.99, 0);
  const auto entropy = [&](int64_t length) {
    const Batch words = all_words(3, length);
    double sum = 0;
    for (int64_t row = 0; row < words.rows; ++row) {
      const double p = process.probability(words.tokens.data() + row * length, length);
      sum -= p * std::log(p);
    }
    return sum;
  };
  const auto entropies = conditional_entropies(mess3(0.002, 0.99), 5);
  for (int64_t t = 1; t <= 5; ++t)
    CHECK_THAT(entropies.by_position[t], WithinAbs(entropy(t + 1) - entropy(t), entropies.error + 1e-9));
  CHECK(entropies.error < 1e-3);
}
