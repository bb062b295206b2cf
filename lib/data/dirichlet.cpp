// Learning from the context alone: each window has its own random statistics, and the ideal
// predictor counts. Its whole curve of loss against position is known.

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "data/dirichlet_statistics.h"
#include "data/generated_source.h"
#include "data/registry.h"

namespace attnscale {
namespace {

/// Each window draws rows from a symmetric Dirichlet distribution: one row for i.i.d. tokens
/// (order 0), one per preceding token for a Markov chain (order 1). The first token of a window is
/// uniform; it has no target, so the first target is predicted from one observed token.
///
/// Bayes prediction: p(j) = (n_ij + alpha) / (n_i + V alpha), n_ij counting the window's transitions
/// so far from the current token i to j (order 0: occurrences of j). Tokens are drawn from this
/// same formula, Polya's urn: by de Finetti's theorem the windows have the law of drawn rows, and
/// additions and comparisons suffice, which round the same on every machine.
///
/// Source: the smoothing of Laplace and Krichevsky and Trofimov 1981 (alpha = 1/2); as a task of
/// in-context learning: Edelman et al. 2024, arXiv:2402.11004.
class Dirichlet final : public GeneratedSource {
 public:
  struct Options {
    int64_t num_symbols = 8;
    int64_t order = 1;
    double alpha = 0.3;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::num_symbols, "num_symbols", "vocabulary V").between(2, 256),
          field(&Options::order, "order", "preceding tokens that matter: 0 (i.i.d.) or 1 (Markov)").between(0, 1),
          field(&Options::alpha, "alpha", "Dirichlet concentration: smaller rows are more uneven").between(0.05, 1000),
      };
      return list;
    }
  };

  explicit Dirichlet(const Options& options) : options_(options), prior_total_(options.num_symbols * options.alpha) {}

  int64_t vocab_size() const override { return options_.num_symbols; }

 protected:
  Truth find_truth(int64_t context) const override {
    if (options_.order == 0) {
      double sum = 0;
      for (int64_t t = 1; t <= context; ++t) sum += iid_bayes_loss(options_.num_symbols, options_.alpha, t);
      return Truth{.entropy_rate = dirichlet_mean_entropy(options_.num_symbols, options_.alpha),
                   .bayes_loss = sum / static_cast<double>(context),
                   .derivation = "beta-binomial mean of the predictive entropy at each position, in closed form"};
    }
    const auto loss = simulated_bayes_loss(context);
    const auto rate = markov_entropy_rate(options_.num_symbols, options_.alpha);
    return Truth{.entropy_rate = rate.mean,
                 .bayes_loss = loss.mean,
                 .bayes_loss_error = loss.error,
                 .derivation = fmt::format("mean predictive entropy over {} simulated windows; entropy rate over {} "
                                           "random chains, standard error {:.1e}",
                                           loss.count, rate.count, rate.error)};
  }

  void draw_window(Random& random, int64_t* tokens, int64_t length) const override {
    Urns urns(*this);
    tokens[0] = static_cast<int64_t>(random.below(options_.num_symbols));
    urns.see_first(tokens[0]);
    for (int64_t at = 1; at < length; ++at) {
      tokens[at] = urns.draw(random);
      urns.see(tokens[at]);
    }
  }

  void score_window(const int64_t* tokens, int64_t length, double* log_probabilities) const override {
    Urns urns(*this);
    urns.see_first(tokens[0]);
    for (int64_t at = 1; at < length; ++at) {
      log_probabilities[at - 1] = std::log(urns.weight(tokens[at]) / urns.total());
      urns.see(tokens[at]);
    }
  }

 private:
  /// Counts of one window, as weights n_ij + alpha.
  class Urns {
   public:
    explicit Urns(const Dirichlet& source)
        : size_(source.options_.num_symbols),
          order_(source.options_.order),
          weights_(order_ == 0 ? size_ : size_ * size_, source.options_.alpha),
          totals_(order_ == 0 ? 1 : size_, source.prior_total_) {}

    double weight(int64_t token) const { return weights_[row_ * size_ + token]; }
    double total() const { return totals_[row_]; }
    int64_t row_index() const { return row_; }

    int64_t draw(Random& random) const {
      const double target = random.uniform() * total();
      double sum = 0;
      for (int64_t token = 0; token + 1 < size_; ++token)
        if (target < (sum += weight(token))) return token;
      return size_ - 1;
    }

    /// The first token is a draw from the row under order 0, and only the state under order 1.
    void see_first(int64_t token) {
      if (order_ == 0) see(token);
      else row_ = token;
    }

    void see(int64_t token) {
      weights_[row_ * size_ + token] += 1;
      totals_[row_] += 1;
      if (order_ == 1) row_ = token;
    }

   private:
    int64_t size_, order_;
    std::vector<double> weights_, totals_;  // [rows, V], [rows]
    int64_t row_ = 0;
  };

  /// Mean over windows of the mean predictive entropy, which has the mean of the loss and less
  /// variance. With g = sum_j w_j ln w_j of a row, its entropy is ln W - g / W: O(1) a step.
  Estimate simulated_bayes_loss(int64_t context) const {
    // About a fifth of a second: each window clears its rows, each step scans half a row.
    const int64_t size = options_.num_symbols, work = size * size / 2 + context * (size / 2 + 10);
    const int64_t windows = std::max<int64_t>(200, 30'000'000 / work);
    const double alpha = options_.alpha, prior_sum = prior_total_ * std::log(alpha);
    std::vector<double> log_weight, log_total;  // by count, 0 .. context
    for (int64_t n = 0; n <= context; ++n) {
      log_weight.push_back(std::log(n + alpha));
      log_total.push_back(std::log(n + prior_total_));
    }
    Random random(0x64697269);  // any constant: the estimate must be the same in every run
    Estimate estimate;
    std::vector<double> weight_sums(size);
    std::vector<int64_t> counts(size * size), totals(size);
    for (int64_t window = 0; window < windows; ++window) {
      Urns urns(*this);
      std::fill(weight_sums.begin(), weight_sums.end(), prior_sum);
      std::fill(counts.begin(), counts.end(), 0);
      std::fill(totals.begin(), totals.end(), 0);
      urns.see_first(static_cast<int64_t>(random.below(size)));
      double sum = 0;
      for (int64_t t = 1; t <= context; ++t) {
        const int64_t row = urns.row_index();
        sum += log_total[totals[row]] - weight_sums[row] / urns.total();
        const int64_t token = urns.draw(random);
        int64_t& count = counts[row * size + token];
        weight_sums[row] += (count + 1 + alpha) * log_weight[count + 1] - (count + alpha) * log_weight[count];
        ++count;
        ++totals[row];
        urns.see(token);
      }
      estimate.add(sum / static_cast<double>(context));
    }
    return estimate;
  }

  Options options_;
  double prior_total_;  // V alpha
};

const RegisterSource<Dirichlet> register_dirichlet{
    {.name = "dirichlet",
     .summary = "each window has its own random i.i.d. or Markov statistics, to be learned in context",
     .source = "Krichevsky and Trofimov 1981; Edelman et al. 2024, arXiv:2402.11004"}};

}  // namespace
}  // namespace attnscale
