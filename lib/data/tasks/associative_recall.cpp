// Multi-query associative recall: pairs of key and value are shown, then keys are asked for among filler.
// The task on which attention and fixed-size states differ most clearly.

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// `k1 v1 k2 v2 ... kN vN`, then slots of two positions, N of which hold a key and its value; the rest is filler drawn
/// from the whole vocabulary. Keys are the lower half of the vocabulary and values the upper, each drawn without
/// repetition. Slot i (from 1) is chosen with a weight of i^(power - 1): most questions come soon, some late.
///
/// Source: Arora et al. 2023, arXiv:2312.04927, section 4 and appendix E. There the value is a label beside the
/// sequence; here it is the next token, which is asked for and then read. No key is asked for twice, so that
/// reading it helps no later question.
class AssociativeRecall final : public TaskSource {
 public:
  struct Options {
    int64_t vocabulary = 8192;
    int64_t num_pairs = 8;
    double power = 0.01;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::vocabulary, "vocabulary", "tokens: half of them keys, half values").between(4, 1 << 20),
          field(&Options::num_pairs, "num_pairs", "pairs shown, and questions asked, in each window").between(1, 65536),
          field(&Options::power, "power", "a in the weight i^(a-1) of the i-th place for a question; 1 is uniform")
              .between(0, 10),
      };
      return list;
    }
  };

  explicit AssociativeRecall(const Options& options) : options_(options) {}

  static std::vector<std::string> refusals(const Options& options, int64_t context) {
    std::vector<std::string> reasons;
    if (4 * options.num_pairs > context + 1)
      reasons.push_back(
          fmt::format("{} pairs and their questions need a context of {}, received {}; take at most {} "
                      "pairs or a longer context",
                      options.num_pairs, 4 * options.num_pairs - 1, context, (context + 1) / 4));
    if (options.num_pairs > options.vocabulary / 2)
      reasons.push_back(fmt::format("{} pairs need as many different keys, but a vocabulary of {} has {}",
                                    options.num_pairs, options.vocabulary, options.vocabulary / 2));
    return reasons;
  }

  int64_t vocab_size() const override { return options_.vocabulary; }

 protected:
  int64_t num_answers() const override { return options_.vocabulary - options_.vocabulary / 2; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const int64_t pairs = options_.num_pairs, half = options_.vocabulary / 2, shown = 2 * pairs;
    const auto keys = draw_distinct(random, pairs, half);
    const auto values = draw_distinct(random, pairs, options_.vocabulary - half);
    for (int64_t i = 0; i < pairs; ++i) {
      window[2 * i] = keys[i];
      window[2 * i + 1] = half + values[i];
    }
    for (int64_t at = shown; at < window.length(); ++at)
      window[at] = static_cast<int64_t>(random.below(options_.vocabulary));
    const auto slots = draw_slots(random, (window.length() - shown) / 2);
    for (int64_t i = 0; i < pairs; ++i) {
      const int64_t at = shown + 2 * slots[i];
      window[at] = keys[i];
      window.ask(at + 1, half + values[i], 2 * i + 1);
    }
  }

 private:
  /// num_pairs different slots, drawn one after another by weight: those with the smallest -ln(u) / weight
  /// (Efraimidis and Spirakis 2006).
  std::vector<int64_t> draw_slots(Random& random, int64_t num_slots) const {
    std::vector<std::pair<double, int64_t>> arrivals;
    for (int64_t slot = 0; slot < num_slots; ++slot) {
      const double weight = std::pow(static_cast<double>(slot + 1), options_.power - 1);
      arrivals.emplace_back(-std::log1p(-random.uniform()) / weight, slot);
    }
    std::partial_sort(arrivals.begin(), arrivals.begin() + options_.num_pairs, arrivals.end());
    std::vector<int64_t> slots;
    for (int64_t i = 0; i < options_.num_pairs; ++i) slots.push_back(arrivals[i].second);
    return slots;
  }

  Options options_;
};

const RegisterSource<AssociativeRecall> register_associative_recall{
    {.name = "associative_recall",
     .summary = "multi-query associative recall: values of keys shown before, asked for among filler",
     .source = "Arora et al. 2023, arXiv:2312.04927, section 4"}};

}  // namespace
}  // namespace attnscale
