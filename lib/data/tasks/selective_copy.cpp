// Selective copying: symbols stand at random places among blanks and are to be repeated in order. Content decides
// what to keep, which a fixed convolution cannot do.

#include <algorithm>

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// Blanks with `num_symbols` symbols at random places, one token that says "now", then the symbols in order.
/// Token 0 is the blank, token 1 "now", the rest are symbols.
///
/// Source: Gu and Dao 2023, arXiv:2312.00752, section 4.1.1; Poli et al. 2024, arXiv:2403.17844, section 3.1.
class SelectiveCopy final : public TaskSource {
 public:
  struct Options {
    int64_t alphabet = 16;
    int64_t num_symbols = 16;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::alphabet, "alphabet", "different symbols").between(2, 1 << 20),
          field(&Options::num_symbols, "num_symbols", "symbols to be copied in each window").between(1, 1 << 16),
      };
      return list;
    }
  };

  explicit SelectiveCopy(const Options& options) : options_(options) {}

  static std::vector<std::string> heads() { return {"next_token", "encoder_decoder"}; }

  /// Up to "now".
  static int64_t input_length(const Options& options, int64_t context) { return context + 1 - options.num_symbols; }

  static std::vector<std::string> refusals(const Options& options, int64_t context) {
    if (2 * options.num_symbols <= context) return {};
    return {fmt::format("{} symbols, one token and a copy need a context of {}, received {}; take at most {} symbols",
                        options.num_symbols, 2 * options.num_symbols, context, std::max<int64_t>(1, context / 2))};
  }

  int64_t vocab_size() const override { return first_symbol + options_.alphabet; }

 protected:
  int64_t num_answers() const override { return options_.alphabet; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const int64_t shown = window.length() - 1 - options_.num_symbols;
    for (int64_t at = 0; at < shown; ++at) window[at] = blank;
    window[shown] = now;
    auto places = draw_distinct(random, options_.num_symbols, shown);
    std::sort(places.begin(), places.end());
    for (int64_t i = 0; i < options_.num_symbols; ++i) {
      window[places[i]] = first_symbol + static_cast<int64_t>(random.below(options_.alphabet));
      window.ask(shown + 1 + i, window[places[i]], places[i]);
    }
  }

 private:
  static constexpr int64_t blank = 0, now = 1, first_symbol = 2;
  Options options_;
};

const RegisterSource<SelectiveCopy> register_selective_copy{
    {.name = "selective_copy",
     .summary = "symbols at random places among blanks, repeated in order",
     .source = "Gu and Dao 2023, arXiv:2312.00752, section 4.1.1"}};

}  // namespace
}  // namespace attnscale
