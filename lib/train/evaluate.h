#pragma once

#include <memory>
#include <optional>

#include "data/source.h"
#include "model/transformer.h"
#include "train/run_config.h"

namespace attnscale {

struct Evaluation {
  double loss = 0;                   ///< mean over the set, nats per token, summed in float64
  std::optional<double> bayes_loss;  ///< of the ideal predictor on the same tokens, where the process is known
};

/// The fixed set that every run with the same data, context and eval_tokens is measured on, whatever its variant, seed
/// or batch size: paired comparisons then see the model's difference only.
class ValidationSet {
 public:
  /// @param tokens  target tokens asked for; rounded up to whole batches
  ValidationSet(const Source& source, int64_t context, int64_t tokens);

  /// Loss of the model in evaluation mode, without gradients. @param dtype  as in `train.dtype`
  Evaluation evaluate(Transformer& model, const std::string& dtype) const;

  int64_t tokens() const;

  /// Windows of such a set: `tokens` rounded up to whole windows, and those to whole batches.
  static int64_t num_windows(int64_t context, int64_t tokens);

  /// The most tokens whose set has at most this many windows.
  static int64_t most_tokens(int64_t context, int64_t windows);

 private:
  std::vector<Batch> batches_;
  std::optional<double> bayes_loss_;
};

/// The set of a run's configuration, made once per process: workers train many runs on the same one.
std::shared_ptr<const ValidationSet> validation_set(const RunConfig& config);

}  // namespace attnscale
