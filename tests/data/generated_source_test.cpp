#include "data/generated_source.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "sources_for_tests.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using Catch::Matchers::WithinAbs;

namespace {

struct Case {
  std::string source;
  Json options = Json::object();
};

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {"zipf_memory"},
      {"zipf_memory", {{"num_keys", 5}, {"num_labels", 3}, {"noise", 0}}},
      {"hidden_markov"},
      {"hidden_markov", {{"x", 0.15}, {"a", 0.6}}},
      {"hidden_markov", {{"process", "even"}}},
      {"hidden_markov", {{"process", "golden_mean"}}},
      {"dirichlet"},
      {"dirichlet", {{"num_symbols", 4}, {"order", 0}, {"alpha", 0.5}}},
      {"graph_walk"},
      {"graph_walk", {{"num_nodes", 9}, {"mean_degree", 2}}},
      {"random_hierarchy"},
      {"random_hierarchy", {{"num_symbols", 5}, {"num_rules", 3}, {"branching", 3}, {"levels", 2}}}};
  return list;
}

}  // namespace

TEST_CASE("generated sources: a batch is a pure function of split, seed and index") {
  for (const auto& [name, options] : cases()) {
    INFO(name << " " << options.dump());
    const auto source = make_source(name, options), again = make_source(name, options);
    const auto tokens = source->batch(Split::train, 3, 5, 4, 63).tokens;
    source->batch(Split::train, 3, 6, 4, 63);  // leaves no state behind
    CHECK(tokens == source->batch(Split::train, 3, 5, 4, 63).tokens);
    CHECK(tokens == again->batch(Split::train, 3, 5, 4, 63).tokens);
    CHECK(tokens != source->batch(Split::train, 4, 5, 4, 63).tokens);
    CHECK(tokens != source->batch(Split::train, 3, 6, 4, 63).tokens);
    CHECK(tokens != source->batch(Split::validation, 3, 5, 4, 63).tokens);
  }
}

TEST_CASE("generated sources: the validation set is the same for every seed") {
  for (const auto& [name, options] : cases()) {
    const auto source = make_source(name, options);
    CHECK(source->batch(Split::validation, 1, 2, 3, 17).tokens == source->batch(Split::validation, 9, 2, 3, 17).tokens);
    CHECK(source->batch(Split::validation, 1, 2, 3, 17).tokens != source->batch(Split::validation, 1, 3, 3, 17).tokens);
  }
}

TEST_CASE("generated sources: a smaller batch is the beginning of a larger one") {
  for (const auto& [name, options] : cases()) {
    const auto source = make_source(name, options);
    auto large = source->batch(Split::train, 0, 0, 5, 9).tokens;
    large.resize(2 * 10);
    CHECK(source->batch(Split::train, 0, 0, 2, 9).tokens == large);
  }
}

TEST_CASE("generated sources: splits and neighbouring batches are uncorrelated") {
  // Agreement of two streams at equal places against agreement at shifted places: equal for independent
  // streams. Only the first tokens of windows are compared: windows are independent.
  for (const auto& [name, options] : cases()) {
    INFO(name << " " << options.dump());
    const auto source = make_source(name, options);
    constexpr int64_t kRows = 2000;
    const auto a = source->batch(Split::train, 0, 0, kRows, 1), b = source->batch(Split::validation, 0, 0, kRows, 1),
               c = source->batch(Split::train, 0, 1, kRows, 1), d = source->batch(Split::train, 1, 0, kRows, 1);
    for (const auto* other : {&b, &c, &d}) {
      double same = 0, shifted = 0;
      for (int64_t row = 0; row < kRows; ++row) {
        same += a.tokens[2 * row] == other->tokens[2 * row];
        shifted += a.tokens[2 * row] == other->tokens[2 * ((row + 1) % kRows)];
      }
      // Two binomial counts: 4 standard errors of their difference, at most sqrt(2 n / 4) each.
      CHECK_THAT(same - shifted, WithinAbs(0, 4 * std::sqrt(kRows / 2.0)));
    }
  }
}

TEST_CASE("generated sources: the Bayes probabilities of all possible next tokens sum to one") {
  for (const auto& [name, options] : cases()) {
    INFO(name << " " << options.dump());
    const auto source = make_source(name, options);
    for (const int64_t context : {1, 2, 9}) {
      const auto window = source->batch(Split::train, 0, 0, 1, context).tokens;
      Batch every{.rows = source->vocab_size(), .context = context};
      for (int64_t token = 0; token < every.rows; ++token) {
        every.tokens.insert(every.tokens.end(), window.begin(), window.end());
        every.tokens.back() = token;
      }
      const auto scores = source->bayes_log_probabilities(every);
      double total = 0;
      for (int64_t row = 0; row < every.rows; ++row) total += std::exp(scores[(row + 1) * context - 1]);
      CHECK_THAT(total, WithinAbs(1, 1e-12));  // rounding of at most 1040 terms
    }
  }
}

TEST_CASE("generated sources: the mean Bayes loss over many windows is the stated truth") {
  for (const auto& [name, options] : cases()) {
    const auto source = make_source(name, options);
    for (const int64_t context : {1, 8, 33}) {
      INFO(name << " " << options.dump() << " context " << context);
      const auto sampled = sampled_bayes_loss(*source, 20000, context);
      const auto truth = source->truth(context).value();
      // 4 standard errors of the sample (and of the truth where that is a simulation); rounding where
      // every window has the same loss.
      CHECK_THAT(sampled.mean,
                 WithinAbs(truth.bayes_loss, 4 * std::hypot(sampled.error, truth.bayes_loss_error) + 1e-12));
      CHECK_FALSE(truth.derivation.empty());
    }
  }
}

TEST_CASE("generated sources: batches that are not windows of the source are refused with the place") {
  const auto source = make_source("hidden_markov");
  CHECK_THROWS_MATCHES(source->bayes_log_probabilities({.rows = 2, .context = 2, .tokens = {0, 1, 2}}), DataError,
                       MessageMatches(ContainsSubstring("3 tokens, expected 6")));
  CHECK_THROWS_MATCHES(source->bayes_log_probabilities({.rows = 1, .context = 2, .tokens = {0, 1, 3}}), DataError,
                       MessageMatches(ContainsSubstring("position 2: token 3")));
  CHECK_THROWS_AS(source->bayes_log_probabilities({.rows = 1, .context = 1, .tokens = {0, -1}}), DataError);
  CHECK_THROWS_AS(source->batch(Split::train, 0, -1, 1, 1), DataError);
  CHECK_THROWS_AS(source->batch(Split::train, 0, 0, 0, 1), DataError);
  CHECK_THROWS_AS(source->batch(Split::train, 0, 0, 1, 0), DataError);
  CHECK_THROWS_AS(source->truth(0), DataError);
}
