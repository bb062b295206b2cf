// Facts to be remembered, the common ones first: key k, drawn by a Zipf law, has one label.
// The task needs no attention, only capacity and data: it gives the cleanest scaling curves.

#include <cmath>

#include <fmt/format.h>

#include "core/hash.h"
#include "data/generated_source.h"
#include "data/registry.h"

namespace attnscale {
namespace {

/// Windows `key, label, key, label, ...`; every window opens with a key.
///
/// Keys 0 .. num_keys - 1 are independent, p(k) proportional to (k + 1)^-(1 + exponent). Each key
/// has a label drawn uniformly, once, from `table_seed`: the table belongs to the source, so runs
/// that differ in their seed learn the same facts. With probability `noise` a label is replaced by
/// a uniform one (which may be the right one). Tokens: keys first, then labels.
///
/// Source: Hutter 2021, arXiv:2102.04074 (a table learned from Zipf data) and Michaud et al. 2023,
/// arXiv:2303.13506 (Zipfian quanta); the alternation of keys and labels is ours.
/// The key probabilities come from std::pow: a library that rounds it differently could change a
/// token, with probability about 1e-13 per draw.
class ZipfMemory final : public GeneratedSource {
 public:
  struct Options {
    int64_t num_keys = 1024;
    int64_t num_labels = 16;
    double exponent = 0.5;
    double noise = 0.1;
    int64_t table_seed = 0;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::num_keys, "num_keys", "facts to remember").between(2, 1 << 20),
          field(&Options::num_labels, "num_labels", "distinct labels").between(2, 65536),
          field(&Options::exponent, "exponent", "a in p(k) ~ k^-(1+a): smaller has a heavier tail").between(0, 10),
          field(&Options::noise, "noise", "probability that a label is replaced by a uniform one").between(0, 1),
          field(&Options::table_seed, "table_seed", "draws the table of labels; not the run's seed").at_least(0),
      };
      return list;
    }
  };

  explicit ZipfMemory(const Options& options) : options_(options), keys_(key_weights(options)) {
    Random random(stream_seed(static_cast<uint64_t>(options.table_seed), "data/zipf_memory/table"));
    for (int64_t key = 0; key < options.num_keys; ++key)
      label_of_key_.push_back(static_cast<int64_t>(random.below(options.num_labels)));
  }

  int64_t vocab_size() const override { return options_.num_keys + options_.num_labels; }

 protected:
  /// Exact: with T inputs that open with a key, ceil(T / 2) targets are labels and floor(T / 2) keys.
  Truth find_truth(int64_t context) const override {
    const double key_loss = keys_.entropy();
    const double wrong = wrong_probability();
    double label_loss = -right_probability() * std::log(right_probability());
    if (wrong > 0) label_loss -= (options_.num_labels - 1) * wrong * std::log(wrong);
    const int64_t label_targets = (context + 1) / 2, key_targets = context / 2;
    return Truth{
        .entropy_rate = (key_loss + label_loss) / 2,
        .bayes_loss = (label_targets * label_loss + key_targets * key_loss) / static_cast<double>(context),
        .derivation = fmt::format("{} of {} targets are keys ({:.6f} nats, the Zipf law's entropy), {} are labels "
                                  "({:.6f} nats, the noise's entropy)",
                                  key_targets, context, key_loss, label_targets, label_loss)};
  }

  void draw_window(Random& random, int64_t* tokens, int64_t length) const override {
    for (int64_t at = 0; at < length; at += 2) {
      const int64_t key = keys_.draw(random);
      tokens[at] = key;
      if (at + 1 == length) break;
      const bool noisy = random.uniform() < options_.noise;
      const int64_t label = noisy ? static_cast<int64_t>(random.below(options_.num_labels)) : label_of_key_[key];
      tokens[at + 1] = options_.num_keys + label;
    }
  }

  void score_window(const int64_t* tokens, int64_t length, double* log_probabilities) const override {
    const double log_right = std::log(right_probability()), log_wrong = std::log(wrong_probability());
    for (int64_t at = 1; at < length; ++at) {
      const bool expects_key = at % 2 == 0, is_key = tokens[at] < options_.num_keys;
      double& score = log_probabilities[at - 1];
      if (expects_key != is_key || (!expects_key && tokens[at - 1] >= options_.num_keys)) score = -INFINITY;
      else if (is_key) score = keys_.log_probabilities()[tokens[at]];
      else score = tokens[at] - options_.num_keys == label_of_key_[tokens[at - 1]] ? log_right : log_wrong;
    }
  }

 private:
  static std::vector<double> key_weights(const Options& options) {
    std::vector<double> weights(options.num_keys);
    for (int64_t key = 0; key < options.num_keys; ++key)
      weights[key] = std::pow(static_cast<double>(key + 1), -(1 + options.exponent));
    return weights;
  }

  double right_probability() const { return 1 - options_.noise + options_.noise / options_.num_labels; }
  double wrong_probability() const { return options_.noise / options_.num_labels; }

  Options options_;
  Categorical keys_;
  std::vector<int64_t> label_of_key_;
};

const RegisterSource<ZipfMemory> register_zipf_memory{
    {.name = "zipf_memory",
     .summary = "pairs (key, label): facts to remember, with Zipf frequencies and label noise",
     .source = "Hutter 2021, arXiv:2102.04074; Michaud et al. 2023, arXiv:2303.13506"}};

}  // namespace
}  // namespace attnscale
