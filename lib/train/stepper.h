#pragma once

#include "data/source.h"
#include "model/transformer.h"
#include "train/optimizer.h"
#include "train/run_config.h"

// R rows, T context, V vocabulary

namespace attnscale {

struct StepResult {
  double loss = 0;           ///< mean over the batch before the update, nats per token
  double gradient_norm = 0;  ///< before clipping
  double learning_rate = 0;
  bool finite = true;  ///< false: loss or gradient is NaN or infinite, and the weights were left alone
};

/// A batch as a tensor, int64 [R, T + 1], without a copy: the batch must outlive it.
Tensor tokens_of(const Batch& batch);

/// The targets that a task asks for, bool [R, T]; undefined where every target counts.
Tensor asked_of(const Batch& batch);

/// Stands at the targets that do not count.
inline constexpr int64_t not_asked = -100;

/// @param tokens  int64 [R, T + 1], on the model's device @return [R * T, V]; float32, or float64 in float64
Tensor next_token_logits(Transformer& model, const Tensor& tokens, const std::string& dtype);

/// @param asked  bool [R, T], may be undefined @return int64 [R * T], `not_asked` where a target does not count
Tensor targets_of(const Tensor& tokens, const Tensor& asked);

/// Cross entropy of every next token that is asked for. @param tokens  int64 [R, T + 1], on the model's device
/// @param asked  bool [R, T]; undefined: all
/// @return scalar for `at::Reduction::Mean`, over the asked targets (NaN if there are none); [R * T] for
///   `at::Reduction::None`, 0 where a target is not asked for; float32, or float64 for float64 logits
Tensor next_token_loss(Transformer& model, const Tensor& tokens, const std::string& dtype, at::Reduction::Reduction how,
                       const Tensor& asked = {});

/// What turns one batch into one update: forward, backward, clipping by the global norm (Pascanu et al. 2013,
/// arXiv:1211.5063, section 3.2), AdamW at the schedule's rate. Knows nothing of data, files or evaluation.
class Stepper {
 public:
  /// Puts the model into training mode, onto `device`, and into the dtype of its weights.
  Stepper(Transformer& model, const TrainOptions& options);

  /// Update number `step`, 1-based. @param tokens  int64 [R, T + 1], on any device
  /// @param asked  as in `next_token_loss`
  StepResult step(const Tensor& tokens, int64_t step, const Tensor& asked = {});

  AdamW& optimizer() { return optimizer_; }

 private:
  Transformer& model_;
  TrainOptions options_;
  bool dropout_;
  AdamW optimizer_;
};

}  // namespace attnscale
