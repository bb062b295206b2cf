// Processes with hidden states: the optimal prediction tracks a belief, and its loss is known.

#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "data/generated_source.h"
#include "data/hidden_markov_process.h"
#include "data/registry.h"

namespace attnscale {
namespace {

/// Windows of a hidden Markov process that start from its stationary distribution; the ideal
/// predictor knows the process and filters the hidden state from the window alone.
///
/// Source: Shai et al. 2024, arXiv:2405.15943 (Mess3 as a training task); the processes are
/// documented in hidden_markov_process.h.
class HiddenMarkov final : public GeneratedSource {
 public:
  struct Options {
    std::string process = "mess3";
    double x = 0.05;
    double a = 0.85;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::process, "process", "the hidden Markov process").one_of({"mess3", "even", "golden_mean"}),
          field(&Options::x, "x", "mess3: probability of moving to each of the two other states").between(0.001, 0.499),
          field(&Options::a, "a", "mess3: probability of emitting the symbol of the new state").between(0, 1),
      };
      return list;
    }
  };

  static std::vector<std::string> refusals(const Options& options, int64_t) {
    std::vector<std::string> reasons;
    if (options.process == "mess3") return reasons;
    const Options defaults;
    if (options.x != defaults.x)
      reasons.push_back(fmt::format("x {} has no meaning for process {}; leave it out", options.x, options.process));
    if (options.a != defaults.a)
      reasons.push_back(fmt::format("a {} has no meaning for process {}; leave it out", options.a, options.process));
    return reasons;
  }

  explicit HiddenMarkov(const Options& options) : process_(process_of(options)), start_(process_.stationary) {
    for (int64_t from = 0; from < process_.num_states; ++from) {
      std::vector<double> weights;  // [K, S]
      for (int64_t symbol = 0; symbol < process_.num_symbols; ++symbol)
        for (int64_t to = 0; to < process_.num_states; ++to) weights.push_back(process_.probability(symbol, from, to));
      moves_.emplace_back(weights);
    }
  }

  int64_t vocab_size() const override { return process_.num_symbols; }

 protected:
  Truth find_truth(int64_t context) const override {
    const auto entropies = conditional_entropies(process_, context);
    const auto& h = entropies.by_position;
    return Truth{
        .entropy_rate = entropies.entropy_rate,
        // Target t of a window has t inputs before it, t = 1 .. context.
        .bayes_loss = std::accumulate(h.begin() + 1, h.end(), 0.0) / static_cast<double>(context),
        .bayes_loss_error = entropies.error,
        .derivation = fmt::format("mean of H(X_t | X_0 .. X_t-1), t = 1 to {}, by the forward filter over all words; "
                                  "{:.6f} at the first target, {:.6f} at the last",
                                  context, h[1], h.back())};
  }

  void draw_window(Random& random, int64_t* tokens, int64_t length) const override {
    int64_t state = start_.draw(random);
    for (int64_t at = 0; at < length; ++at) {
      const int64_t move = moves_[state].draw(random);
      tokens[at] = move / process_.num_states;
      state = move % process_.num_states;
    }
  }

  void score_window(const int64_t* tokens, int64_t length, double* log_probabilities) const override {
    Belief belief = process_.stationary;
    process_.observe(belief, tokens[0]);
    for (int64_t at = 1; at < length; ++at) log_probabilities[at - 1] = std::log(process_.observe(belief, tokens[at]));
  }

 private:
  static HiddenMarkovProcess process_of(const Options& options) {
    if (options.process == "even") return even_process();
    if (options.process == "golden_mean") return golden_mean_process();
    return mess3(options.x, options.a);
  }

  HiddenMarkovProcess process_;
  Categorical start_;
  std::vector<Categorical> moves_;  ///< per state, over (symbol, next state)
};

const RegisterSource<HiddenMarkov> register_hidden_markov{
    {.name = "hidden_markov",
     .summary = "symbols of a process with hidden states: Mess3, Even or Golden Mean",
     .source = "Shai et al. 2024, arXiv:2405.15943; Marzen and Crutchfield 2017, arXiv:1702.08565"}};

}  // namespace
}  // namespace attnscale
