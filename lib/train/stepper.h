#pragma once

#include "data/source.h"
#include "model/transformer.h"
#include "train/average.h"
#include "train/objective.h"
#include "train/optimizer.h"

// R rows, T context, V vocabulary

namespace attnscale {

struct StepResult {
  double loss = 0;           ///< cross entropy, mean over the batch before the update, nats per token
  double gradient_norm = 0;  ///< before clipping
  double learning_rate = 0;
  bool finite = true;  ///< false: loss or gradient is NaN or infinite, and the weights were left alone
};

/// A batch as a tensor, int64 [R, T + 1], without a copy: the batch must outlive it.
Tensor tokens_of(const Batch& batch);

/// The targets that a task asks for, bool [R, T]; undefined where every target counts.
Tensor asked_of(const Batch& batch);

/// @param tokens  int64 [R, T + 1], on the model's device @return [R * T, V]; float32, or float64 in float64
Tensor next_token_logits(Transformer& model, const Tensor& tokens, const std::string& dtype);

/// @param asked  bool [R, T], may be undefined @return int64 [R * T], `not_asked` where a target does not count
Tensor targets_of(const Tensor& tokens, const Tensor& asked);

/// What turns one batch into one update: forward and backward in as many passes as `accumulate` says, clipping, the
/// optimiser at the schedule's rate, the weights' average. Knows nothing of data, files or evaluation.
///
/// Passes take the windows in order, as many each, and their gradients add up to the whole batch's but for rounding.
/// Two things are each pass's own: what dropout zeroes, and what a variant adds to the loss, of which the mean is
/// taken.
class Stepper {
 public:
  /// Puts the model into training mode, onto `device`, and into the dtype of its weights.
  Stepper(Transformer& model, const TrainOptions& options);

  /// Update number `step`, 1-based. @param tokens  int64 [R, T + 1], on any device; R a multiple of `accumulate`
  /// @param asked  bool [R, T]; undefined: every target counts
  StepResult step(const Tensor& tokens, int64_t step, const Tensor& asked = {});

  Optimizer& optimizer() { return *optimizer_; }

  /// Of the weights; nothing if `ema_decay` is 0.
  WeightAverage* average() { return average_ ? &*average_ : nullptr; }

 private:
  Tensor accumulate_gradients(const Tensor& tokens, const Tensor& asked);
  Tensor pass(const Tensor& tokens, const Tensor& asked, const Tensor& count);

  Transformer& model_;
  TrainOptions options_;
  bool dropout_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<WeightAverage> average_;
};

}  // namespace attnscale
