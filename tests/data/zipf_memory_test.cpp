#include <cmath>
#include <map>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "sources_for_tests.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;

namespace {

/// p(k) = k^-(1 + a) / sum, k = 1 .. n, as the task defines it.
std::vector<double> zipf(int64_t n, double a) {
  std::vector<double> p;
  double total = 0;
  for (int64_t k = 1; k <= n; ++k) p.push_back(1 / std::pow(k, 1 + a)), total += p.back();
  for (double& value : p) value /= total;
  return p;
}

double entropy(const std::vector<double>& p) {
  double sum = 0;
  for (const double value : p) sum -= value > 0 ? value * std::log(value) : 0;
  return sum;
}

/// Entropy of a label that is right with 1 - noise + noise / n and each other with noise / n.
double label_entropy(int64_t n, double noise) {
  std::vector<double> p(n, noise / static_cast<double>(n));
  p[0] += 1 - noise;
  return entropy(p);
}

}  // namespace

// 1.742963 = (H(key) + H(label)) / 2 = (2.920917 + 0.565009) / 2 by these formulas in Python. (A sample of 16384
// tokens has a standard error of .015: an estimate like 1.728 is no contradiction.)
TEST_CASE("zipf_memory: the default costs the ideal predictor 1.742963 nats per token") {
  const auto source = make_source("zipf_memory");
  CHECK(source->vocab_size() == 1040);
  CHECK_THAT(source->truth(64)->bayes_loss, WithinAbs(1.742963, 5e-7));  // the digits given
  CHECK_THAT(source->truth(64)->entropy_rate,
             WithinAbs((entropy(zipf(1024, 0.5)) + label_entropy(16, 0.1)) / 2, 1e-10));
  CHECK(source->truth(64)->bayes_loss_error == 0);
}

TEST_CASE("zipf_memory: an odd window has one label target more than key targets") {
  const auto source = make_source("zipf_memory", {{"num_keys", 6}, {"num_labels", 4}, {"exponent", 1}, {"noise", 0.2}});
  const double key = entropy(zipf(6, 1)), label = label_entropy(4, 0.2);
  // Inputs key, label, key: targets label, key, label.
  CHECK_THAT(source->truth(1)->bayes_loss, WithinAbs(label, 1e-12));
  CHECK_THAT(source->truth(2)->bayes_loss, WithinAbs((label + key) / 2, 1e-12));
  CHECK_THAT(source->truth(3)->bayes_loss, WithinAbs((2 * label + key) / 3, 1e-12));
  CHECK_THAT(source->truth(65)->bayes_loss, WithinAbs((33 * label + 32 * key) / 65, 1e-12));
}

TEST_CASE("zipf_memory: keys follow the Zipf law, labels their table, and noise its rate") {
  constexpr int64_t kKeys = 6, kLabels = 4, kRows = 40000;
  constexpr double kNoise = 0.2;
  const auto source =
      make_source("zipf_memory", {{"num_keys", kKeys}, {"num_labels", kLabels}, {"exponent", 1}, {"noise", kNoise}});
  const auto batch = source->batch(Split::train, 2, 0, kRows, 1);  // one pair a window
  std::vector<int64_t> key_counts(kKeys);
  std::vector<std::vector<int64_t>> label_counts(kKeys, std::vector<int64_t>(kLabels));
  for (int64_t row = 0; row < kRows; ++row) {
    const int64_t key = batch.tokens[2 * row], label = batch.tokens[2 * row + 1] - kKeys;
    REQUIRE((key >= 0 && key < kKeys && label >= 0 && label < kLabels));
    ++key_counts[key];
    ++label_counts[key][label];
  }
  // 6 + 24 frequencies: the worst is beyond 4.5 standard errors once in 5000 seeds.
  CHECK(worst_deviation(key_counts, zipf(kKeys, 1), kRows) < 4.5);
  const auto scores = source->bayes_log_probabilities(batch);
  for (int64_t key = 0; key < kKeys; ++key) {
    std::vector<double> expected(kLabels, kNoise / kLabels);
    // The label seen most often is the table's: with 85 % against 5 % no other can win in 400 draws or more.
    const auto most = std::max_element(label_counts[key].begin(), label_counts[key].end());
    expected[most - label_counts[key].begin()] += 1 - kNoise;
    CHECK(worst_deviation(label_counts[key], expected, key_counts[key]) < 4.5);
    for (int64_t row = 0; row < kRows; ++row)
      if (batch.tokens[2 * row] == key)
        REQUIRE_THAT(std::exp(scores[row]), WithinAbs(expected[batch.tokens[2 * row + 1] - kKeys], 1e-12));
  }
}

TEST_CASE("zipf_memory: windows alternate key and label, in both parities of the context") {
  const auto source = make_source("zipf_memory");
  for (const int64_t context : {1, 2, 63, 64}) {
    const auto batch = source->batch(Split::validation, 0, 0, 3, context);
    for (int64_t row = 0; row < 3; ++row)
      for (int64_t at = 0; at <= context; ++at)
        REQUIRE((batch.tokens[row * (context + 1) + at] < 1024) == (at % 2 == 0));
  }
}

TEST_CASE("zipf_memory: the table belongs to the source, not to the run's seed") {
  const auto facts = [](const Json& options, uint64_t seed) {
    std::map<int64_t, int64_t> label_of_key;
    const auto batch = make_source("zipf_memory", options)->batch(Split::train, seed, 0, 20, 64);
    for (int64_t row = 0; row < 20; ++row)
      for (int64_t at = 0; at < 64; at += 2)
        label_of_key[batch.tokens[row * 65 + at]] = batch.tokens[row * 65 + at + 1];
    return label_of_key;
  };
  const Json noiseless = {{"noise", 0}}, other_table = {{"noise", 0}, {"table_seed", 1}};
  const auto a = facts(noiseless, 1), b = facts(noiseless, 2), c = facts(other_table, 1);
  int64_t common = 0, different = 0;
  for (const auto& [key, label] : a) {
    if (b.contains(key)) {
      CHECK(b.at(key) == label);
      ++common;
    }
    different += c.at(key) != label;  // same seed: same keys
  }
  CHECK(common > 20);
  CHECK(different > static_cast<int64_t>(a.size()) / 2);  // 15 of 16 expected
}

TEST_CASE("zipf_memory: tokens out of turn have probability zero") {
  const auto source = make_source("zipf_memory", {{"num_keys", 4}, {"num_labels", 2}});
  const auto scores = source->bayes_log_probabilities({.rows = 3, .context = 1, .tokens = {0, 1, 4, 5, 0, 4}});
  CHECK(scores[0] == -INFINITY);
  CHECK(scores[1] == -INFINITY);
  CHECK(std::isfinite(scores[2]));
}
