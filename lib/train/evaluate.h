#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "data/source.h"
#include "model/transformer.h"
#include "train/questions.h"
#include "train/run_config.h"

namespace attnscale {

/// Targets that belong together: by position in the window, or by the distance of what tells the answer.
struct Bin {
  int64_t first = 0, last = 0;  ///< positions of targets from 1, or distances; both included
  int64_t count = 0;            ///< targets that count
  double loss = 0;              ///< sum until the end of the evaluation, then mean; nats
  double bayes_loss = 0;        ///< likewise, of the ideal predictor
  double accuracy = 0;          ///< likewise: the most probable token is the target
};

struct Evaluation {
  double loss = 0;                         ///< mean over the targets that count, nats per token, summed in float64
  double accuracy = 0;                     ///< share of them that the most probable token hits
  std::optional<double> bayes_loss;        ///< of the ideal predictor on the same tokens, where the process is known
  std::optional<double> bayes_loss_error;  ///< its standard error, from the spread of the windows' means
  std::vector<Bin> positions;              ///< at most 32, of equal width; those without a target left out
  std::vector<Bin> distances = {};         ///< [1, 1], [2, 3], [4, 7], ...; empty where no distance is known
};

/// `{positions: {first, last, count, loss, accuracy, bayes_loss?}, distances: {...}}`, each a list with one entry per
/// bin; `distances` only where there are any.
Json details(const Evaluation& evaluation);

/// The fixed set that every run with the same data, context, eval_tokens and head is measured on, whatever its variant,
/// seed or batch size: paired comparisons then see the model's difference only.
class ValidationSet {
 public:
  /// @param tokens  tokens of the windows; rounded up to whole batches @param model  for its head
  /// @param split   training windows are drawn as a run's are, by a seed that no run has
  ValidationSet(const Source& source, int64_t context, int64_t tokens, const ModelOptions& model = {},
                Split split = Split::validation);

  /// Loss and accuracy of the model in evaluation mode, without gradients. @param dtype  as in `train.dtype`
  Evaluation evaluate(Transformer& model, const std::string& dtype) const;

  /// Tokens that the model reads.
  int64_t tokens() const;

  /// Targets that count.
  int64_t num_asked() const { return num_asked_; }

  /// Windows of such a set: `tokens` rounded up to whole windows, and those to whole batches.
  static int64_t num_windows(int64_t context, int64_t tokens);

  /// The most tokens whose set has at most this many windows.
  static int64_t most_tokens(int64_t context, int64_t windows);

 private:
  std::vector<Bin> bins_by_position() const;
  double error_over_windows() const;
  /// Calls work(begin, end) with the scores of each window's outputs.
  template <class Work>
  void for_each_window(Work work) const;

  std::vector<Batch> batches_;
  std::vector<Questions> questions_;  // of the batches, which they may be views of
  int64_t num_asked_ = 0;
  std::vector<std::vector<double>> scores_;  // ln probability of the ideal predictor, by batch; empty if not known
  std::optional<double> bayes_loss_, bayes_loss_error_;
};

/// The set of a run's configuration, made once per process: workers train many runs on the same one.
std::shared_ptr<const ValidationSet> validation_set(const RunConfig& config);

}  // namespace attnscale
