// Copying: a random string and then the same string again. Every answer lies the same distance back, so that it
// tests how many symbols a state can hold.

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// Two copies of a random string with one separator (token 0) between them; a window of even length opens with a
/// second separator.
///
/// Source: Graves et al. 2014, arXiv:1410.5401, section 4.1; Jelassi et al. 2024, arXiv:2402.01032.
class Copy final : public TaskSource {
 public:
  struct Options {
    int64_t alphabet = 16;
    static const Fields& fields() {
      static const Fields list = {field(&Options::alphabet, "alphabet", "different symbols").between(2, 1 << 20)};
      return list;
    }
  };

  explicit Copy(const Options& options) : options_(options) {}

  static std::vector<std::string> heads() { return {"next_token", "encoder_decoder"}; }

  /// The string and the separator.
  static int64_t input_length(const Options&, int64_t context) { return context - context / 2 + 1; }

  static std::vector<std::string> refusals(const Options&, int64_t context) {
    if (context >= 2) return {};
    return {fmt::format("a symbol, a separator and the copy need a context of 2, received {}", context)};
  }

  int64_t vocab_size() const override { return 1 + options_.alphabet; }

 protected:
  int64_t num_answers() const override { return options_.alphabet; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const int64_t symbols = (window.length() - 1) / 2, first = window.length() - 1 - 2 * symbols;
    if (first == 1) window[0] = separator;
    window[first + symbols] = separator;
    for (int64_t i = 0; i < symbols; ++i) {
      const int64_t symbol = 1 + static_cast<int64_t>(random.below(options_.alphabet));
      window[first + i] = symbol;
      window.ask(first + symbols + 1 + i, symbol, first + i);
    }
  }

 private:
  static constexpr int64_t separator = 0;
  Options options_;
};

const RegisterSource<Copy> register_copy{{.name = "copy",
                                          .summary = "a random string, a separator, and the string again",
                                          .source = "Graves et al. 2014, arXiv:1410.5401, section 4.1"}};

}  // namespace
}  // namespace attnscale
