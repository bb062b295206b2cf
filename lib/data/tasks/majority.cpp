// Majority: which symbol is the most frequent? A uniform average over the context answers it.

#include <algorithm>

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// Random symbols, an equals sign (the last token of the vocabulary), and the most frequent symbol. Windows with a
/// tie are drawn again.
///
/// Source: Merrill et al. 2022, arXiv:2106.16213 (majority as what saturated attention can compute); several symbols
/// are ours.
class Majority final : public TaskSource {
 public:
  struct Options {
    int64_t alphabet = 2;
    static const Fields& fields() {
      static const Fields list = {field(&Options::alphabet, "alphabet", "different symbols").between(2, 256)};
      return list;
    }
  };

  explicit Majority(const Options& options) : options_(options) {}

  static std::vector<std::string> heads() { return heads_of_one_answer(); }

  static std::vector<std::string> refusals(const Options&, int64_t context) {
    if (context >= 2) return {};
    return {fmt::format("a symbol and the equals sign need a context of 2, received {}", context)};
  }

  int64_t vocab_size() const override { return options_.alphabet + 1; }

 protected:
  int64_t num_answers() const override { return options_.alphabet; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const int64_t symbols = window.length() - 2;
    std::vector<int64_t> counts(options_.alphabet);
    std::vector<int64_t>::iterator most;
    do {
      std::fill(counts.begin(), counts.end(), 0);
      for (int64_t at = 0; at < symbols; ++at) {
        window[at] = static_cast<int64_t>(random.below(options_.alphabet));
        ++counts[window[at]];
      }
      most = std::max_element(counts.begin(), counts.end());
    } while (std::count(counts.begin(), counts.end(), *most) > 1);
    window[symbols] = options_.alphabet;
    window.ask(symbols + 1, most - counts.begin(), symbols + 1);
  }

 private:
  Options options_;
};

const RegisterSource<Majority> register_majority{{.name = "majority",
                                                  .summary = "random symbols, and which is the most frequent",
                                                  .source = "Merrill et al. 2022, arXiv:2106.16213"}};

}  // namespace
}  // namespace attnscale
