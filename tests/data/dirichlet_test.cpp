#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "sources_for_tests.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;

namespace {

/// Probability of the counts' sequence under one row: Gamma(V a) / Gamma(n + V a) prod Gamma(n_j + a) / Gamma(a).
double row_probability(const std::vector<int64_t>& counts, double alpha) {
  double total = 0, log_p = 0;
  for (const int64_t n : counts) {
    total += static_cast<double>(n);
    log_p += std::lgamma(n + alpha) - std::lgamma(alpha);
  }
  const double prior = alpha * static_cast<double>(counts.size());
  return std::exp(log_p + std::lgamma(prior) - std::lgamma(total + prior));
}

/// Probability of a window, integrated over the random rows: nothing of the urn's sequential rule.
double window_probability(const int64_t* tokens, int64_t length, int64_t size, int64_t order, double alpha) {
  if (order == 0) {
    std::vector<int64_t> counts(size);
    for (int64_t at = 0; at < length; ++at) ++counts[tokens[at]];
    return row_probability(counts, alpha);
  }
  double p = 1.0 / static_cast<double>(size);
  for (int64_t row = 0; row < size; ++row) {
    std::vector<int64_t> counts(size);
    for (int64_t at = 1; at < length; ++at)
      if (tokens[at - 1] == row) ++counts[tokens[at]];
    p *= row_probability(counts, alpha);
  }
  return p;
}

struct Setting {
  int64_t size, order;
  double alpha;
  Json options() const { return {{"num_symbols", size}, {"order", order}, {"alpha", alpha}}; }
};
const std::vector<Setting> kSettings = {{2, 0, 0.5}, {3, 0, 2}, {2, 1, 0.3}, {3, 1, 1}};

}  // namespace

TEST_CASE("dirichlet: windows come up as often as integration over random rows says") {
  for (const auto& setting : kSettings) {
    INFO(setting.options().dump());
    constexpr int64_t kWindows = 40000, kLength = 4;
    const Batch words = all_words(setting.size, kLength);
    std::vector<double> probabilities;
    for (int64_t row = 0; row < words.rows; ++row)
      probabilities.push_back(
          window_probability(words.tokens.data() + row * kLength, kLength, setting.size, setting.order, setting.alpha));
    const auto source = make_source("dirichlet", setting.options());
    // At most 81 words: the worst of them is beyond 4.5 standard errors once in 2000 seeds.
    CHECK(worst_deviation(word_counts(*source, kWindows, kLength), probabilities, kWindows) < 4.5);
  }
}

TEST_CASE("dirichlet: Bayes probabilities are ratios of integrated window probabilities") {
  for (const auto& setting : kSettings) {
    INFO(setting.options().dump());
    constexpr int64_t kLength = 5;
    const Batch words = all_words(setting.size, kLength);
    const auto scores = make_source("dirichlet", setting.options())->bayes_log_probabilities(words);
    for (int64_t row = 0; row < words.rows; ++row) {
      const int64_t* word = words.tokens.data() + row * kLength;
      for (int64_t t = 1; t < kLength; ++t) {
        const double with = window_probability(word, t + 1, setting.size, setting.order, setting.alpha),
                     before = window_probability(word, t, setting.size, setting.order, setting.alpha);
        // Rounding of a few lgamma values.
        REQUIRE_THAT(std::exp(scores[row * (kLength - 1) + t - 1]), WithinAbs(with / before, 1e-12));
      }
    }
  }
}

TEST_CASE("dirichlet: the i.i.d. loss at each position is the published one") {
  // V = 4, alpha = 1/2. Published to six digits, so 1e-6.
  CHECK_THAT(iid_bayes_loss(4, 0.5, 0), WithinAbs(1.386294, 1e-6));
  CHECK_THAT(iid_bayes_loss(4, 0.5, 1), WithinAbs(1.242453, 1e-6));
  CHECK_THAT(iid_bayes_loss(4, 0.5, 5), WithinAbs(1.056204, 1e-6));
  CHECK_THAT(iid_bayes_loss(4, 0.5, 49), WithinAbs(0.913124, 1e-6));
  CHECK_THAT(dirichlet_mean_entropy(4, 0.5), WithinAbs(0.886294, 1e-6));
  // The loss tends to the mean entropy as (V - 1) / (2 t): what is left at t = 20000 is 7.5e-5.
  CHECK_THAT(iid_bayes_loss(4, 0.5, 20000), WithinAbs(dirichlet_mean_entropy(4, 0.5) + 1.5 / 20000, 1e-6));
}

TEST_CASE("dirichlet: the first target is predicted from one token, so truth starts at t = 1") {
  const auto source = make_source("dirichlet", {{"num_symbols", 4}, {"order", 0}, {"alpha", 0.5}});
  CHECK_THAT(source->truth(1)->bayes_loss, WithinAbs(1.242453, 1e-6));
  // The last target of a window of 49 has 49 tokens before it.
  CHECK_THAT(49 * source->truth(49)->bayes_loss - 48 * source->truth(48)->bayes_loss, WithinAbs(0.913124, 1e-6));
  CHECK_THAT(source->truth(49)->entropy_rate, WithinAbs(0.886294, 1e-6));
  CHECK(source->truth(49)->bayes_loss_error == 0);
}

TEST_CASE("dirichlet: the Bayes loss equals the sum over all windows, i.i.d. exactly, Markov within its error") {
  for (const auto& setting : kSettings) {
    INFO(setting.options().dump());
    for (const int64_t context : {1, 3, 6}) {
      const Batch words = all_words(setting.size, context + 1);
      double loss = 0;
      for (int64_t row = 0; row < words.rows; ++row) {
        const int64_t* word = words.tokens.data() + row * (context + 1);
        const double p = window_probability(word, context + 1, setting.size, setting.order, setting.alpha);
        // -ln p(targets | first token); the first token is uniform.
        loss -= p * std::log(p * static_cast<double>(setting.size)) / static_cast<double>(context);
      }
      const auto truth = make_source("dirichlet", setting.options())->truth(context).value();
      CHECK((truth.bayes_loss_error > 0) == (setting.order == 1 && context > 1));
      // 1e-10: rounding of lgamma. 4 standard errors of the simulation.
      CHECK_THAT(truth.bayes_loss, WithinAbs(loss, 1e-10 + 4 * truth.bayes_loss_error));
    }
  }
}

TEST_CASE("dirichlet: the entropy rate of a random two-state chain equals the integral over its rows") {
  // alpha = 1: p = P(0 to 1), q = P(1 to 0) uniform; pi = (q, p) / (p + q). Midpoint rule, 400 x 400.
  constexpr int kGrid = 400;
  const auto binary_entropy = [](double p) { return -p * std::log(p) - (1 - p) * std::log(1 - p); };
  double expected = 0;
  for (int i = 0; i < kGrid; ++i)
    for (int j = 0; j < kGrid; ++j) {
      const double p = (i + 0.5) / kGrid, q = (j + 0.5) / kGrid;
      expected += (q * binary_entropy(p) + p * binary_entropy(q)) / (p + q) / (kGrid * kGrid);
    }
  const auto rate = markov_entropy_rate(2, 1);
  CHECK(rate.error < 0.002);
  // 4 standard errors, and the midpoint rule's error at the corner and edges, below 1e-5.
  CHECK_THAT(rate.mean, WithinAbs(expected, 4 * rate.error + 1e-5));
}

TEST_CASE("dirichlet: at small concentrations and large vocabularies the entropy rate stays meaningful") {
  for (const auto& [size, alpha] : std::vector<std::pair<int64_t, double>>{{2, 0.05}, {16, 0.05}, {256, 1000}}) {
    const auto rate = markov_entropy_rate(size, alpha);
    INFO(size << " " << alpha << " " << rate.mean << " +- " << rate.error);
    CHECK(rate.mean > 0);
    CHECK(rate.mean < std::log(size));
    CHECK(rate.error < 0.01);
  }
  // alpha = 1000 is nearly uniform rows: the entropy rate is the rows' mean entropy, since pi is uniform up to 1e-3.
  CHECK_THAT(markov_entropy_rate(256, 1000).mean, WithinAbs(dirichlet_mean_entropy(256, 1000), 1e-4));
}
