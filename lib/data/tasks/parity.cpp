// Parity: is the number of ones odd? One flipped bit flips the answer, so that every position matters.

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// Random bits (tokens 0 and 1), an equals sign (2), and the parity as 0 or 1. With `vary_length` the number of bits
/// is uniform from 1 to what fits, and blanks (3) come first.
///
/// Source: Hahn 2020, arXiv:1906.06755, section 3; Bhattamishra et al. 2020, arXiv:2009.11264.
class Parity final : public TaskSource {
 public:
  struct Options {
    bool vary_length = false;
    static const Fields& fields() {
      static const Fields list = {field(&Options::vary_length, "vary_length",
                                        "draw the number of bits for each window; shorter ones are easier")};
      return list;
    }
  };

  explicit Parity(const Options& options) : options_(options) {}

  static std::vector<std::string> heads() { return heads_of_one_answer(); }

  static std::vector<std::string> refusals(const Options&, int64_t context) {
    if (context >= 2) return {};
    return {fmt::format("a bit and the equals sign need a context of 2, received {}", context)};
  }

  int64_t vocab_size() const override { return 4; }

 protected:
  int64_t num_answers() const override { return 2; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const int64_t most = window.length() - 2;
    const int64_t bits = options_.vary_length ? 1 + static_cast<int64_t>(random.below(most)) : most;
    int64_t parity = 0;
    for (int64_t at = 0; at < most; ++at) {
      window[at] = at < most - bits ? blank : static_cast<int64_t>(random.below(2));
      if (window[at] == 1) parity = 1 - parity;
    }
    window[most] = equals;
    window.ask(most + 1, parity, most + 1);
  }

 private:
  static constexpr int64_t equals = 2, blank = 3;
  Options options_;
};

const RegisterSource<Parity> register_parity{{.name = "parity",
                                              .summary = "random bits, and whether the number of ones is odd",
                                              .source = "Hahn 2020, arXiv:1906.06755, section 3"}};

}  // namespace
}  // namespace attnscale
