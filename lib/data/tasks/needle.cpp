// Needle in a haystack: a few facts among much filler, one of which is asked for at the end. How the answer depends on
// the length (data.context) and on how far back the needle lies is what it is for.

#include <algorithm>

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// Filler with `num_needles` needles, each `marker key value...`, at random places; at the end `question key`, and
/// the value of that needle is asked for. Keys of one window differ, so that the other needles are distractors.
///
/// Source: the test of Kamradt (2023) in the form of Hsieh et al. 2024, arXiv:2404.06654, section 3 (multi-key
/// needles), on synthetic tokens.
class Needle final : public TaskSource {
 public:
  struct Options {
    int64_t num_needles = 4;
    int64_t num_keys = 32;
    int64_t num_values = 32;
    int64_t value_length = 2;
    int64_t num_filler = 64;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::num_needles, "num_needles", "needles in a window, one of which is asked for")
              .between(1, 4096),
          field(&Options::num_keys, "num_keys", "key tokens").between(1, 65536),
          field(&Options::num_values, "num_values", "value tokens").between(2, 65536),
          field(&Options::value_length, "value_length", "tokens of a value").between(1, 64).in("tokens"),
          field(&Options::num_filler, "num_filler", "filler tokens").between(1, 65536),
      };
      return list;
    }
  };

  explicit Needle(const Options& options) : options_(options) {}

  static std::vector<std::string> refusals(const Options& options, int64_t context) {
    std::vector<std::string> reasons;
    const int64_t least = (options.num_needles + 1) * (2 + options.value_length) - 1;
    if (context < least)
      reasons.push_back(fmt::format("{} needles and the question need a context of {}, received {}",
                                    options.num_needles, least, context));
    if (options.num_needles > options.num_keys)
      reasons.push_back(
          fmt::format("{} needles need as many different keys; num_keys is {}", options.num_needles, options.num_keys));
    return reasons;
  }

  int64_t vocab_size() const override {
    return first_key + options_.num_keys + options_.num_values + options_.num_filler;
  }

 protected:
  int64_t num_answers() const override { return options_.num_values; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const int64_t size = 2 + options_.value_length, needles = options_.num_needles;
    const int64_t first_value = first_key + options_.num_keys, first_filler = first_value + options_.num_values;
    const int64_t hay = window.length() - size;  // what comes before the question
    for (int64_t at = 0; at < hay; ++at)
      window[at] = first_filler + static_cast<int64_t>(random.below(options_.num_filler));
    const auto keys = draw_distinct(random, needles, options_.num_keys);
    // Each needle counts as one place among the filler, so that all arrangements are equally likely.
    auto places = draw_distinct(random, needles, hay - needles * (size - 1));
    std::sort(places.begin(), places.end());
    const auto asked = static_cast<int64_t>(random.below(needles));
    for (int64_t i = 0; i < needles; ++i) {
      const int64_t at = places[i] + i * (size - 1);
      window[at] = marker;
      window[at + 1] = first_key + keys[i];
      for (int64_t j = 0; j < options_.value_length; ++j)
        window[at + 2 + j] = first_value + static_cast<int64_t>(random.below(options_.num_values));
      if (i != asked) continue;
      window[hay] = question;
      window[hay + 1] = window[at + 1];
      for (int64_t j = 0; j < options_.value_length; ++j) window.ask(hay + 2 + j, window[at + 2 + j], at + 2 + j);
    }
  }

 private:
  static constexpr int64_t marker = 0, question = 1, first_key = 2;
  Options options_;
};

const RegisterSource<Needle> register_needle{
    {.name = "needle",
     .summary = "needle in a haystack: one of several facts among filler, asked for at the end",
     .source = "Hsieh et al. 2024, arXiv:2404.06654, section 3"}};

}  // namespace
}  // namespace attnscale
