// Sequences with a hidden tree: each symbol stands for one of several short strings of symbols below it, level under
// level. What is far apart in the text is near in the tree: a model gains from context level by level.

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "core/hash.h"
#include "data/dirichlet_statistics.h"
#include "data/generated_source.h"
#include "data/production_rules.h"
#include "data/registry.h"

namespace attnscale {
namespace {

constexpr int64_t most_right_sides = 1 << 20;
constexpr int64_t longest_sequence = 1 << 16;

/// base^exponent, or `limit` + 1 where that is exceeded.
int64_t bounded_power(int64_t base, int64_t exponent, int64_t limit) {
  int64_t result = 1;
  for (int64_t i = 0; i < exponent; ++i)
    if ((result *= base) > limit) return limit + 1;
  return result;
}

/// Windows of sequences of the random hierarchy model, one after another; every window opens with a whole sequence,
/// and its last one is cut where the window ends. The ideal predictor knows the grammar and where sequences begin.
///
/// The grammar belongs to the source (`rules_seed`): runs that differ in their seed learn the same one. With V symbols,
/// M rules, S branches and L levels a sequence of S^L tokens has the entropy ln V + (S^L - 1) / (S - 1) ln M. Levels
/// are learned one after the other, level l near V M^(2l - 1) / (1 - M / V^(S - 1)) sequences.
///
/// Source: Cagnetta et al. 2024, arXiv:2307.02129 (the model); Cagnetta and Wyart 2024, arXiv:2406.00048 (prediction of
/// its tokens, section 4). Sequences one after another in a window are ours.
class RandomHierarchy final : public GeneratedSource {
 public:
  struct Options {
    int64_t num_symbols = 8;
    int64_t num_rules = 4;
    int64_t branching = 2;
    int64_t levels = 3;
    int64_t rules_seed = 0;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::num_symbols, "num_symbols", "symbols of each level, V; those of the lowest are the tokens")
              .between(2, 1024),
          field(&Options::num_rules, "num_rules", "strings that a symbol can stand for, M: at most V^(S - 1)")
              .between(1, most_right_sides),
          field(&Options::branching, "branching", "length of these strings, S").between(2, 16),
          field(&Options::levels, "levels", "levels of rules, L: a sequence has S^L tokens").between(1, 16),
          field(&Options::rules_seed, "rules_seed", "draws the grammar; not the run's seed").at_least(0),
      };
      return list;
    }
  };

  static std::vector<std::string> refusals(const Options& options, int64_t) {
    const auto& [V, M, S, L, seed] = options;
    std::vector<std::string> reasons;
    if (bounded_power(V, S, most_right_sides) > most_right_sides)
      reasons.push_back(
          fmt::format("num_symbols {} and branching {}: num_symbols^branching is at most {}", V, S, most_right_sides));
    else if (const int64_t most = bounded_power(V, S - 1, most_right_sides); M > most)
      reasons.push_back(fmt::format(
          "num_rules {}: strings of different symbols are distinct, so that at most num_symbols^(branching - 1) = {} "
          "rules are left for each",
          M, most));
    if (bounded_power(S, L, longest_sequence) > longest_sequence)
      reasons.push_back(fmt::format("branching {} and levels {}: sequences have branching^levels tokens, at most {}", S,
                                    L, longest_sequence));
    return reasons;
  }

  explicit RandomHierarchy(const Options& options) : rules_(rules_of(options)) {}

  int64_t vocab_size() const override { return rules_.sizes().num_symbols; }

 protected:
  /// Whole sequences have their entropy in closed form; the rest of a window is counted belief by belief.
  Truth find_truth(int64_t context) const override {
    const int64_t length = rules_.sequence_length(), whole = (context + 1) / length, rest = (context + 1) % length;
    Truth truth;
    truth.entropy_rate = rules_.sequence_entropy() / static_cast<double>(length);
    const double first = hierarchy_entropies(rules_, 1).front();  // of the window's first token, which is no target
    double sum = static_cast<double>(whole) * rules_.sequence_entropy() - first;
    std::string how = "in closed form";
    if (rest > 0) {
      auto of_rest = hierarchy_entropies(rules_, rest);
      how += fmt::format(", and {} tokens of another by belief propagation over all beginnings", rest);
      if (of_rest.empty()) {
        const auto sampled = sampled_loss(rest);
        of_rest = {sampled.mean};
        truth.bayes_loss_error = sampled.error / static_cast<double>(context);
        how =
            fmt::format("in closed form, and {} tokens of another as the mean over {} sequences", rest, sampled.count);
      }
      for (const double h : of_rest) sum += h;
    }
    truth.bayes_loss = sum / static_cast<double>(context);
    truth.derivation = fmt::format("{} whole sequences of {} tokens, {:.6f} nats each, {}", whole, length,
                                   rules_.sequence_entropy(), how);
    return truth;
  }

  void draw_window(Random& random, int64_t* tokens, int64_t length) const override {
    std::vector<int64_t> sequence(rules_.sequence_length());
    for (int64_t at = 0; at < length; at += static_cast<int64_t>(sequence.size())) {
      const auto top = static_cast<int64_t>(random.below(rules_.sizes().num_symbols));
      rules_.grow(random, rules_.sizes().levels, top, sequence.data());
      std::copy_n(sequence.begin(), std::min<int64_t>(length - at, static_cast<int64_t>(sequence.size())), tokens + at);
    }
  }

  void score_window(const int64_t* tokens, int64_t length, double* log_probabilities) const override {
    const int64_t sequence = rules_.sequence_length();
    for (int64_t start = 0; start < length; start += sequence) {
      HierarchyFilter filter(rules_);
      for (int64_t at = start; at < std::min(length, start + sequence); ++at) {
        if (at > 0) log_probabilities[at - 1] = std::log(filter.next_token()[tokens[at]]);
        filter.see(tokens[at]);
      }
    }
  }

 private:
  static ProductionRules rules_of(const Options& options) {
    if (const auto reasons = refusals(options, 1); !reasons.empty()) throw ConfigError("data." + reasons.front());
    return ProductionRules(
        {options.num_symbols, options.num_rules, options.branching, options.levels},
        Random(stream_seed(static_cast<uint64_t>(options.rules_seed), "data/random_hierarchy/rules")));
  }

  /// Of the first `count` tokens of a sequence together: where too many beliefs arise to be counted.
  Estimate sampled_loss(int64_t count) const {
    Random random(0x68696572);  // any constant: the estimate must be the same in every run
    Estimate estimate;
    std::vector<int64_t> tokens(rules_.sequence_length());
    for (int64_t sequence = 0; sequence < 20'000; ++sequence) {
      const auto top = static_cast<int64_t>(random.below(rules_.sizes().num_symbols));
      rules_.grow(random, rules_.sizes().levels, top, tokens.data());
      HierarchyFilter filter(rules_);
      double loss = 0;
      for (int64_t at = 0; at < count; ++at) {
        loss -= std::log(filter.next_token()[tokens[at]]);
        filter.see(tokens[at]);
      }
      estimate.add(loss);
    }
    return estimate;
  }

  ProductionRules rules_;
};

const RegisterSource<RandomHierarchy> register_random_hierarchy{
    {.name = "random_hierarchy",
     .summary = "sequences that grow from a hidden tree of production rules, the random hierarchy model",
     .source = "Cagnetta et al. 2024, arXiv:2307.02129; Cagnetta and Wyart 2024, arXiv:2406.00048"}};

}  // namespace
}  // namespace attnscale
