// The induction task: what followed the trigger when it came before follows it again.

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// Random symbols; somewhere the trigger (token 0) and a symbol after it; the trigger again as the last input, and the
/// same symbol is asked for.
///
/// Source: Gu and Dao 2023, arXiv:2312.00752, section 4.1.2, after Olsson et al. 2022, arXiv:2209.11895.
class Induction final : public TaskSource {
 public:
  struct Options {
    int64_t alphabet = 16;
    static const Fields& fields() {
      static const Fields list = {
          field(&Options::alphabet, "alphabet", "symbols beside the trigger").between(2, 1 << 20)};
      return list;
    }
  };

  explicit Induction(const Options& options) : options_(options) {}

  static std::vector<std::string> heads() { return heads_of_one_answer(); }

  static std::vector<std::string> refusals(const Options&, int64_t context) {
    if (context >= 3) return {};
    return {fmt::format("trigger, symbol and trigger need a context of 3, received {}", context)};
  }

  int64_t vocab_size() const override { return 1 + options_.alphabet; }

 protected:
  int64_t num_answers() const override { return options_.alphabet; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const int64_t last = window.length() - 1;
    for (int64_t at = 0; at < last - 1; ++at) window[at] = 1 + static_cast<int64_t>(random.below(options_.alphabet));
    const auto place = static_cast<int64_t>(random.below(last - 2));
    window[place] = trigger;
    window[last - 1] = trigger;
    window.ask(last, window[place + 1], place + 1);
  }

 private:
  static constexpr int64_t trigger = 0;
  Options options_;
};

const RegisterSource<Induction> register_induction{
    {.name = "induction",
     .summary = "the symbol that followed the trigger before is asked for when it comes again",
     .source = "Gu and Dao 2023, arXiv:2312.00752, section 4.1.2"}};

}  // namespace
}  // namespace attnscale
