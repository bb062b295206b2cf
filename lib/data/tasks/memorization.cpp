// Memorisation: one dictionary for all windows, which no context tells: it has to be learnt into the weights.

#include <fmt/format.h>

#include "core/hash.h"
#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// Pairs of a key, drawn uniformly, and its value by a table that belongs to the source; values are asked for.
///
/// Source: Poli et al. 2024, arXiv:2403.17844, section 3.1. With Zipf frequencies and noise: the source zipf_memory.
class Memorization final : public TaskSource {
 public:
  struct Options {
    int64_t num_keys = 256;
    int64_t num_values = 256;
    int64_t table_seed = 0;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::num_keys, "num_keys", "facts to remember").between(1, 1 << 20),
          field(&Options::num_values, "num_values", "different values").between(2, 1 << 20),
          field(&Options::table_seed, "table_seed", "draws the table of values; not the run's seed").at_least(0),
      };
      return list;
    }
  };

  explicit Memorization(const Options& options) : options_(options) {
    Random random(stream_seed(static_cast<uint64_t>(options.table_seed), "data/memorization/table"));
    for (int64_t key = 0; key < options.num_keys; ++key)
      value_of_key_.push_back(options.num_keys + static_cast<int64_t>(random.below(options.num_values)));
  }

  int64_t vocab_size() const override { return options_.num_keys + options_.num_values; }

 protected:
  int64_t num_answers() const override { return options_.num_values; }

  void draw_window(Random& random, TaskWindow& window) const override {
    for (int64_t at = 0; at < window.length(); at += 2) {
      const auto key = static_cast<int64_t>(random.below(options_.num_keys));
      window[at] = key;
      if (at + 1 < window.length()) window.ask(at + 1, value_of_key_[key], at + 1);
    }
  }

 private:
  Options options_;
  std::vector<int64_t> value_of_key_;
};

const RegisterSource<Memorization> register_memorization{
    {.name = "memorization",
     .summary = "values of keys by one table for all windows: the weights must hold it",
     .source = "Poli et al. 2024, arXiv:2403.17844, section 3.1"}};

}  // namespace
}  // namespace attnscale
