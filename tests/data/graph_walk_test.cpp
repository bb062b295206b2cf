#include <cmath>
#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "sources_for_tests.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;

namespace {

/// The graph as a walker sees it: which tokens follow which. Nothing of the source's own table is used.
struct SeenGraph {
  std::vector<std::set<int64_t>> neighbours;

  SeenGraph(const Source& source, int64_t windows, int64_t context) : neighbours(source.vocab_size()) {
    const auto batch = source.batch(Split::train, 11, 0, windows, context);
    for (int64_t row = 0; row < windows; ++row)
      for (int64_t at = 0; at < context; ++at) {
        const int64_t* here = batch.tokens.data() + row * (context + 1) + at;
        neighbours[here[0]].insert(here[1]);
      }
  }

  int64_t num_ends() const {
    int64_t sum = 0;
    for (const auto& list : neighbours) sum += static_cast<int64_t>(list.size());
    return sum;
  }
  double degree(int64_t node) const { return static_cast<double>(neighbours[node].size()); }

  /// p(word) = deg(first) / 2M times 1 / deg of each node that is left.
  double probability(const int64_t* word, int64_t length) const {
    double p = degree(word[0]) / static_cast<double>(num_ends());
    for (int64_t at = 1; at < length; ++at)
      p *= neighbours[word[at - 1]].contains(word[at]) ? 1 / degree(word[at - 1]) : 0;
    return p;
  }

  /// Over all words.
  double block_entropy(int64_t length) const {
    const Batch words = all_words(static_cast<int64_t>(neighbours.size()), length);
    double sum = 0;
    for (int64_t row = 0; row < words.rows; ++row)
      if (const double p = probability(words.tokens.data() + row * length, length); p > 0) sum -= p * std::log(p);
    return sum;
  }
};

const Json small = {{"num_nodes", 6}, {"mean_degree", 3}, {"graph_seed", 2}};

}  // namespace

TEST_CASE("graph_walk: the graph is simple, undirected, and has the edges that it should") {
  for (const Json& options : {small, Json{{"num_nodes", 40}, {"mean_degree", 5.3}}}) {
    INFO(options.dump());
    const auto source = make_source("graph_walk", options);
    const SeenGraph graph(*source, 400, 200);
    CHECK(graph.num_ends() ==
          2 * std::llround(options["num_nodes"].get<double>() * options["mean_degree"].get<double>() / 2));
    for (int64_t a = 0; a < source->vocab_size(); ++a) {
      CHECK_FALSE(graph.neighbours[a].contains(a));
      for (const int64_t b : graph.neighbours[a]) CHECK(graph.neighbours[b].contains(a));
    }
  }
}

TEST_CASE("graph_walk: words come up as often as a walk on the seen graph makes them, from the first token on") {
  constexpr int64_t kWindows = 40000, kLength = 3;
  const auto source = make_source("graph_walk", small);
  const SeenGraph graph(*source, 400, 100);
  const Batch words = all_words(6, kLength);
  std::vector<double> probabilities;
  for (int64_t row = 0; row < words.rows; ++row)
    probabilities.push_back(graph.probability(words.tokens.data() + row * kLength, kLength));
  // At most 216 words: the worst of them is beyond 4.5 standard errors once in 700 seeds.
  CHECK(worst_deviation(word_counts(*source, kWindows, kLength), probabilities, kWindows) < 4.5);
}

TEST_CASE("graph_walk: Bayes probabilities and losses are those of all words by brute force") {
  const auto source = make_source("graph_walk", small);
  const SeenGraph graph(*source, 400, 100);
  constexpr int64_t kLength = 4;
  const Batch words = all_words(6, kLength);
  const auto scores = source->bayes_log_probabilities(words);
  int64_t checked = 0;
  for (int64_t row = 0; row < words.rows; ++row) {
    const int64_t* word = words.tokens.data() + row * kLength;
    for (int64_t t = 1; t < kLength; ++t) {
      const double before = graph.probability(word, t), with = graph.probability(word, t + 1);
      if (before == 0) break;
      CHECK_THAT(std::exp(scores[row * (kLength - 1) + t - 1]), WithinAbs(with / before, 1e-14));
      ++checked;
    }
  }
  CHECK(checked > 400);
  // sum over t of H(X_t | X_0 .. X_t-1) = H(X_0 .. X_T) - H(X_0).
  for (const int64_t context : {1, 2, 4}) {
    const double expected = (graph.block_entropy(context + 1) - graph.block_entropy(1)) / static_cast<double>(context);
    const auto truth = source->truth(context).value();
    CHECK_THAT(truth.bayes_loss, WithinAbs(expected, 1e-12));
    CHECK(truth.entropy_rate == truth.bayes_loss);
    CHECK(truth.bayes_loss_error == 0);
  }
}

// A triangle has three nodes with two neighbours: ln 2. Two nodes and one edge go to and fro: 0. The complete graph of
// eight: ln 7.
TEST_CASE("graph_walk: graphs whose entropy is known by hand") {
  const auto rate = [](int64_t nodes, double degree) {
    return make_source("graph_walk", {{"num_nodes", nodes}, {"mean_degree", degree}})->truth(5)->entropy_rate;
  };
  CHECK_THAT(rate(3, 2), WithinAbs(std::log(2), 1e-15));
  CHECK(rate(2, 1) == 0);
  CHECK_THAT(rate(8, 7), WithinAbs(std::log(7), 1e-15));
}

// Degrees of G(n, M) are near Poisson with mean 10, where E[d ln d] / 10 = E[ln(1 + d)] = 2.3517; degrees of one graph
// of 4,000 nodes scatter by .002 about it.
TEST_CASE("graph_walk: degrees of a large graph scatter as those of a random graph") {
  double expected = 0, p = std::exp(-10);
  for (int d = 0; d < 60; p *= 10.0 / ++d) expected += p * std::log(1 + d);
  const auto truth = make_source("graph_walk", {{"num_nodes", 4000}, {"mean_degree", 10}})->truth(1).value();
  CHECK_THAT(truth.entropy_rate, WithinAbs(expected, 0.008));
}

TEST_CASE("graph_walk: the graph belongs to the source, not to the run's seed") {
  const auto pairs = [](int64_t graph_seed, uint64_t seed) {
    const auto source = make_source("graph_walk", {{"num_nodes", 12}, {"mean_degree", 3}, {"graph_seed", graph_seed}});
    const auto batch = source->batch(Split::train, seed, 0, 300, 50);
    std::set<std::pair<int64_t, int64_t>> seen;
    for (int64_t row = 0; row < 300; ++row)
      for (int64_t at = 0; at < 50; ++at) seen.insert({batch.tokens[row * 51 + at], batch.tokens[row * 51 + at + 1]});
    return seen;
  };
  CHECK(pairs(0, 1) == pairs(0, 2));
  CHECK(pairs(0, 1) != pairs(1, 1));
}

TEST_CASE("graph_walk: graphs that cannot be are refused by name") {
  const auto& info = source_named("graph_walk");
  CHECK(info.refusals({{"num_nodes", 8}, {"mean_degree", 8}}, 64).at(0).find("at most 7 neighbours") !=
        std::string::npos);
  CHECK(info.refusals({{"num_nodes", 4}, {"mean_degree", 0.1}}, 64).at(0).find("no edge") != std::string::npos);
  CHECK(info.refusals({{"num_nodes", 8}, {"mean_degree", 7}}, 64).empty());
  CHECK_THROWS_AS(info.make({{"num_nodes", 8}, {"mean_degree", 8}}), ConfigError);
}
