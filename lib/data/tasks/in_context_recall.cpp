// In-context recall, with its fuzzy form (keys and values of several tokens) and its noisy form (tokens that
// belong to no pair): a dictionary of its own for each window, learnt while reading.

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// A sequence of pairs, each a key and its value by the window's dictionary. Values are asked for whenever their
/// key was seen before in the window. Dictionary, key lengths and value lengths are drawn for each window.
///
/// A key of several tokens begins with a token that no other key begins with, so that what follows is determined.
/// Noise comes between pairs, from an alphabet of its own.
///
/// Source: Poli et al. 2024, arXiv:2403.17844, section 3.1 (in-context, fuzzy and noisy recall). There the tuples of
/// fuzzy recall may share their beginnings; ours may not, which makes the Bayes accuracy exactly 1.
class InContextRecall final : public TaskSource {
 public:
  struct Options {
    int64_t num_keys = 8;
    int64_t num_values = 8;
    int64_t longest_key = 1;
    int64_t longest_value = 1;
    double noise = 0;
    int64_t num_noise = 16;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::num_keys, "num_keys", "keys in a window's dictionary, and key tokens").between(1, 65536),
          field(&Options::num_values, "num_values", "value tokens").between(2, 65536),
          field(&Options::longest_key, "longest_key",
                "keys are 1 to this many tokens long: more than 1 is fuzzy recall")
              .between(1, 64)
              .in("tokens"),
          field(&Options::longest_value, "longest_value", "values are 1 to this many tokens long")
              .between(1, 64)
              .in("tokens"),
          field(&Options::noise, "noise", "chance of a noise token where a pair could begin: above 0 is noisy recall")
              .between(0, 0.99),
          field(&Options::num_noise, "num_noise", "noise tokens").between(1, 65536),
      };
      return list;
    }
  };

  explicit InContextRecall(const Options& options) : options_(options) {}

  static std::vector<std::string> refusals(const Options& options, int64_t context) {
    const int64_t least = 2 * (options.longest_key + options.longest_value);
    if (context + 1 >= least) return {};
    return {fmt::format("two pairs of {} and {} tokens need a context of {}, received {}", options.longest_key,
                        options.longest_value, least - 1, context)};
  }

  int64_t vocab_size() const override {
    return options_.num_keys + options_.num_values + (options_.noise > 0 ? options_.num_noise : 0);
  }

 protected:
  int64_t num_answers() const override { return options_.num_values; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const auto dictionary = draw_dictionary(random);
    std::vector<int64_t> value_seen_at(options_.num_keys, -1);
    for (int64_t at = 0; at < window.length();) {
      if (options_.noise > 0 && random.uniform() < options_.noise) {
        window[at++] = options_.num_keys + options_.num_values + static_cast<int64_t>(random.below(options_.num_noise));
        continue;
      }
      const auto chosen = random.below(options_.num_keys);
      for (const int64_t token : dictionary[chosen].key)
        if (at < window.length()) window[at++] = token;
      const int64_t begin = at;
      for (const int64_t token : dictionary[chosen].value) {
        if (at == window.length()) return;
        if (value_seen_at[chosen] >= 0) window.ask(at, token, value_seen_at[chosen] + at - begin);
        else window[at] = token;
        ++at;
      }
      value_seen_at[chosen] = begin;
    }
  }

 private:
  struct Pair {
    std::vector<int64_t> key, value;
  };

  std::vector<Pair> draw_dictionary(Random& random) const {
    const auto tokens = [&](std::vector<int64_t>& into, int64_t longest, int64_t first, int64_t count) {
      const int64_t length = 1 + static_cast<int64_t>(random.below(longest));
      while (std::ssize(into) < length) into.push_back(first + static_cast<int64_t>(random.below(count)));
    };
    std::vector<Pair> dictionary(options_.num_keys);
    for (int64_t i = 0; i < options_.num_keys; ++i) {
      dictionary[i].key = {i};
      tokens(dictionary[i].key, options_.longest_key, 0, options_.num_keys);
      tokens(dictionary[i].value, options_.longest_value, options_.num_keys, options_.num_values);
    }
    return dictionary;
  }

  Options options_;
};

const RegisterSource<InContextRecall> register_in_context_recall{
    {.name = "in_context_recall",
     .summary = "values of keys seen before, by a dictionary of the window's own; fuzzy and noisy by options",
     .source = "Poli et al. 2024, arXiv:2403.17844, section 3.1"}};

}  // namespace
}  // namespace attnscale
