#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "core/hash.h"
#include "data/production_rules.h"
#include "sources_for_tests.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;

namespace {

struct Grammar {
  int64_t V, M, S, L;

  Json options() const { return {{"num_symbols", V}, {"num_rules", M}, {"branching", S}, {"levels", L}}; }
  int64_t length() const { return std::llround(std::pow(S, L)); }
  /// V M^n, n = 1 + S + .. + S^(L - 1) nodes above the tokens.
  int64_t num_sequences() const { return V * std::llround(std::pow(M, (length() - 1) / (S - 1))); }
};

/// 24, 384, 486 and 96 sequences; in the last every right side is used, so that tokens of a pair are free.
const std::vector<Grammar> grammars = {{3, 2, 2, 2}, {3, 2, 2, 3}, {6, 3, 3, 2}, {3, 1, 2, 3}, {3, 3, 2, 2}};

using Sequence = std::vector<int64_t>;

/// How often each sequence comes up in windows of exactly one sequence. Nothing of the source's rules is used.
std::map<Sequence, int64_t> seen_sequences(const Source& source, int64_t windows, int64_t length) {
  std::map<Sequence, int64_t> counts;
  const auto batch = source.batch(Split::train, 5, 3, windows, length - 1);
  for (int64_t row = 0; row < windows; ++row) {
    const auto* first = batch.tokens.data() + row * length;
    ++counts[Sequence(first, first + length)];
  }
  return counts;
}

/// Sequences that begin so.
double num_with(const std::map<Sequence, int64_t>& sequences, const Sequence& beginning) {
  double count = 0;
  for (const auto& [sequence, times] : sequences)
    count += std::equal(beginning.begin(), beginning.end(), sequence.begin());
  return count;
}

/// Entropy of the first `count` tokens when all sequences are equally likely, by counting beginnings.
double beginning_entropy(const std::map<Sequence, int64_t>& sequences, int64_t count) {
  std::map<Sequence, double> share;
  for (const auto& [sequence, times] : sequences)
    share[Sequence(sequence.begin(), sequence.begin() + count)] += 1.0 / static_cast<double>(sequences.size());
  double sum = 0;
  for (const auto& [beginning, p] : share) sum -= p * std::log(p);
  return sum;
}

}  // namespace

TEST_CASE("random_hierarchy: exactly V M^n sequences come up, each as often") {
  for (const auto& grammar : grammars) {
    INFO(grammar.options().dump());
    constexpr int64_t kWindows = 40000;
    const auto source = make_source("random_hierarchy", grammar.options());
    const auto sequences = seen_sequences(*source, kWindows, grammar.length());
    REQUIRE(static_cast<int64_t>(sequences.size()) == grammar.num_sequences());
    std::vector<int64_t> counts;
    for (const auto& [sequence, times] : sequences) counts.push_back(times);
    // At most 486 sequences: the worst of them is beyond 4.5 standard errors once in 300 seeds.
    CHECK(worst_deviation(counts, std::vector<double>(counts.size(), 1.0 / static_cast<double>(counts.size())),
                          kWindows) < 4.5);
  }
}

TEST_CASE("random_hierarchy: Bayes probabilities are shares of the sequences that go on so") {
  for (const auto& grammar : grammars) {
    INFO(grammar.options().dump());
    const auto source = make_source("random_hierarchy", grammar.options());
    const int64_t length = grammar.length();
    const auto sequences = seen_sequences(*source, 40000, length);
    // Two sequences and a half: the second and the cut third begin anew.
    const int64_t window = 2 * length + length / 2;
    const auto batch = source->batch(Split::train, 8, 0, 40, window - 1);
    const auto scores = source->bayes_log_probabilities(batch);
    for (int64_t row = 0; row < batch.rows; ++row) {
      Sequence seen;
      for (int64_t at = 0; at < window; ++at) {
        if (at % length == 0) seen.clear();
        const double before = num_with(sequences, seen);
        seen.push_back(batch.tokens[row * window + at]);
        if (at > 0)
          CHECK_THAT(std::exp(scores[row * (window - 1) + at - 1]),
                     WithinAbs(num_with(sequences, seen) / before, 1e-12));
      }
    }
  }
}

TEST_CASE("random_hierarchy: the Bayes loss of any window is that of counting all beginnings") {
  for (const auto& grammar : grammars) {
    INFO(grammar.options().dump());
    const auto source = make_source("random_hierarchy", grammar.options());
    const int64_t length = grammar.length();
    const auto sequences = seen_sequences(*source, 40000, length);
    const double whole = std::log(static_cast<double>(grammar.num_sequences()));
    for (int64_t context = 1; context < 2 * length + 2; ++context) {
      const int64_t tokens = context + 1;
      const double expected = static_cast<double>(tokens / length) * whole +
                              beginning_entropy(sequences, tokens % length) - beginning_entropy(sequences, 1);
      const auto truth = source->truth(context).value();
      CHECK_THAT(truth.bayes_loss, WithinAbs(expected / static_cast<double>(context), 1e-12));
      CHECK_THAT(truth.entropy_rate, WithinAbs(whole / static_cast<double>(length), 1e-12));
      CHECK(truth.bayes_loss_error == 0);
    }
  }
}

TEST_CASE("random_hierarchy: what the grammar cannot make has probability zero, and so has all after it") {
  const Grammar grammar{4, 1, 2, 2};  // one rule a symbol: 4 of 256 sequences
  const auto source = make_source("random_hierarchy", grammar.options());
  const auto sequences = seen_sequences(*source, 1000, 4);
  const Batch words = all_words(4, 5);
  const auto scores = source->bayes_log_probabilities(words);
  for (int64_t row = 0; row < words.rows; ++row) {
    Sequence seen = {words.tokens[row * 5]};
    for (int64_t at = 1; at < 4; ++at) {
      seen.push_back(words.tokens[row * 5 + at]);
      CHECK(std::isfinite(scores[row * 4 + at - 1]) == (num_with(sequences, seen) > 0));
    }
    // The fifth token begins another sequence, whatever the first was.
    CHECK(std::isfinite(scores[row * 4 + 3]) == (num_with(sequences, {words.tokens[row * 5 + 4]}) > 0));
  }
}

TEST_CASE("random_hierarchy: right sides of a level are distinct, and tell their symbol") {
  const ProductionRules rules({.num_symbols = 7, .num_rules = 5, .branching = 3, .levels = 2}, Random(3));
  for (const int64_t level : {1, 2}) {
    std::set<std::vector<int64_t>> sides;
    for (int64_t symbol = 0; symbol < 7; ++symbol)
      for (int64_t rule = 0; rule < 5; ++rule) {
        const int64_t* side = rules.right_side(level, symbol, rule);
        sides.insert({side, side + 3});
        CHECK(rules.parent(level, side) == symbol);
      }
    CHECK(sides.size() == 35);
  }
  CHECK_THAT(rules.sequence_entropy(), WithinAbs(std::log(7) + 4 * std::log(5), 1e-12));  // 1 + 3 nodes
}

TEST_CASE("random_hierarchy: where beliefs are too many to count, the sampled loss says its error") {
  const ProductionRules rules({.num_symbols = 8, .num_rules = 4, .branching = 2, .levels = 3}, Random(1));
  CHECK(hierarchy_entropies(rules, 8).size() == 8);
  CHECK(hierarchy_entropies(rules, 8, 20).empty());
  // 16 tokens but one: 40 symbols seen at each of the three upper levels, 64,000 beliefs, more than are counted
  // unasked.
  const Json options = {{"num_symbols", 40}, {"num_rules", 30}, {"branching", 2}, {"levels", 4}};
  const auto truth = make_source("random_hierarchy", options)->truth(31 + 15).value();
  const ProductionRules same({.num_symbols = 40, .num_rules = 30, .branching = 2, .levels = 4},
                             Random(stream_seed(0, "data/random_hierarchy/rules")));
  const auto exact = hierarchy_entropies(same, 15, 100'000);
  REQUIRE(exact.size() == 15);
  const double sum = 2 * same.sequence_entropy() - exact[0] + std::accumulate(exact.begin(), exact.end(), 0.0);
  CHECK(truth.bayes_loss_error > 0);
  CHECK(truth.bayes_loss_error < 1e-3);
  CHECK_THAT(truth.bayes_loss, WithinAbs(sum / 46, 4 * truth.bayes_loss_error));
}

TEST_CASE("random_hierarchy: the grammar belongs to the source, not to the run's seed") {
  const Grammar grammar{3, 2, 2, 2};
  const auto sequences = [&](int64_t rules_seed, uint64_t seed) {
    Json options = grammar.options();
    options["rules_seed"] = rules_seed;
    const auto batch = make_source("random_hierarchy", options)->batch(Split::train, seed, 0, 2000, 3);
    std::set<Sequence> seen;
    for (int64_t row = 0; row < 2000; ++row)
      seen.insert({batch.tokens.data() + row * 4, batch.tokens.data() + row * 4 + 4});
    return seen;
  };
  CHECK(sequences(0, 1) == sequences(0, 2));
  CHECK(sequences(0, 1) != sequences(1, 1));
}

TEST_CASE("random_hierarchy: grammars that cannot be are refused by name") {
  const auto reason = [](const Json& options) {
    const auto reasons = source_named("random_hierarchy").refusals(options, 64);
    return reasons.empty() ? std::string() : reasons.front();
  };
  CHECK(reason(Json::object()).empty());
  CHECK(reason({{"num_symbols", 4}, {"num_rules", 4}}).empty());
  CHECK(reason({{"num_symbols", 4}, {"num_rules", 5}}).find("= 4 rules") != std::string::npos);
  CHECK(reason({{"num_symbols", 1024}, {"branching", 3}}).find("num_symbols^branching") != std::string::npos);
  CHECK(reason({{"num_symbols", 2}, {"num_rules", 2}, {"branching", 16}, {"levels", 5}}).find("at most 65536") !=
        std::string::npos);
  CHECK_THROWS_AS(source_named("random_hierarchy").make({{"num_symbols", 4}, {"num_rules", 5}}), ConfigError);
}
