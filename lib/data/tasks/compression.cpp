// Compression: a random string is to be told again from the state at its last position alone. What a state can hold
// is what it is for.

#include <cmath>

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// Random symbols, then the token that says "compress" (token 0), at which a model with `model.head` "reconstruct" has
/// to hold them all: each symbol is asked for again. The token after it, which no such model reads, is a 0 too.
///
/// Source: Poli et al. 2024, arXiv:2403.17844, section 3.1; its vocabulary of 16 and length of 32 are 15 symbols and a
/// context of 32. The paper's code asks for the compression token as well, which says nothing and is left out here.
class Compression final : public TaskSource {
 public:
  struct Options {
    int64_t alphabet = 15;
    static const Fields& fields() {
      static const Fields list = {field(&Options::alphabet, "alphabet", "different symbols").between(2, 1 << 20)};
      return list;
    }
  };

  explicit Compression(const Options& options) : options_(options) {}

  static std::vector<std::string> heads() { return {"reconstruct"}; }

  static std::vector<std::string> refusals(const Options&, int64_t context) {
    if (context >= 2) return {};
    return {fmt::format("a symbol and the token that compresses need a context of 2, received {}", context)};
  }

  int64_t vocab_size() const override { return 1 + options_.alphabet; }

  std::optional<Truth> truth(int64_t context) const override {
    auto truth = TaskSource::truth(context);
    const double bits = static_cast<double>(context - 1) * std::log2(static_cast<double>(options_.alphabet));
    truth->derivation = fmt::format(
        "every symbol is an input, so that a state which holds the {:.4g} bits of them all loses nothing; {} symbols "
        "are equally likely before reading",
        bits, options_.alphabet);
    return truth;
  }

 protected:
  int64_t num_answers() const override { return options_.alphabet; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const int64_t symbols = window.length() - 2;
    for (int64_t at = 0; at < symbols; ++at) {
      window[at] = 1 + static_cast<int64_t>(random.below(options_.alphabet));
      window.ask_again(at);
    }
    window[symbols] = window[symbols + 1] = compress;
  }

 private:
  static constexpr int64_t compress = 0;
  Options options_;
};

const RegisterSource<Compression> register_compression{
    {.name = "compression",
     .summary = "random symbols, to be told again from the state at the last position (model.head reconstruct)",
     .source = "Poli et al. 2024, arXiv:2403.17844, section 3.1"}};

}  // namespace
}  // namespace attnscale
