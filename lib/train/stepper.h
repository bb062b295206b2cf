#pragma once

#include "model/transformer.h"
#include "train/average.h"
#include "train/captured_step.h"
#include "train/deterministic.h"
#include "train/loss_scale.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/watch.h"

// R rows, T context, N targets of a window, V vocabulary

namespace attnscale {

struct StepResult {
  double loss = 0;           ///< cross entropy, mean over the batch before the update, nats per token
  double gradient_norm = 0;  ///< before clipping
  double learning_rate = 0;
  double loss_scale = 1;   ///< of this step
  bool overflow = false;   ///< the gradients overflowed float16: the weights were left alone, and the scale was halved
  bool finite = true;      ///< false: loss or gradient is NaN or infinite, and the weights were left alone
  std::string cause = {};  ///< of what is not finite: `the gradient of blocks.0.mixer.qkv.weight is not finite`
};

/// What the options of `train` keep float32 of a model.
Float32Parts float32_parts(const TrainOptions& options);

/// @param inputs  int64 [R, T], on the model's device @return [R * N, V]; float32, or float64 in float64
Tensor logits_of(Transformer& model, const Tensor& inputs, const std::string& dtype);

/// What turns one batch into one update: forward and backward in as many passes as `accumulate` says, clipping, the
/// optimiser at the schedule's rate, the weights' average. Knows nothing of data, files or evaluation.
///
/// Passes take the windows in order, as many each, and their gradients add up to the whole batch's but for rounding.
/// Two things are each pass's own: what dropout zeroes, and what a variant adds to the loss, of which the mean is
/// taken.
///
/// With `cuda_graph`, steps that are not watched are a CapturedStep.
class Stepper {
 public:
  /// Puts the model into training mode, onto `device`, and into the dtype of its weights. As long as the stepper lives,
  /// what is computed repeats to the bit if `deterministic` says so.
  Stepper(Transformer& model, const TrainOptions& options);

  /// Update number `step`, 1-based. @param questions  on any device; R a multiple of `accumulate`
  /// @param watched  filled with what the step shows, if there was an update; null: nothing is looked at
  StepResult step(const Questions& questions, int64_t step, StepLook* watched = nullptr);

  Optimizer& optimizer() { return *optimizer_; }
  LossScale& loss_scale() { return loss_scale_; }

  /// What the schedule's rates are multiplied by from here on.
  void set_rate_factor(double factor) { rate_factor_ = factor; }

  /// Of the weights; nothing if `ema_decay` is 0.
  WeightAverage* average() { return average_ ? &*average_ : nullptr; }

  /// What is evaluated in place of the weights that are trained, by name: their running average (`ema_decay`), or the
  /// optimiser's (schedule_free); empty where it is the weights themselves. For a checkpoint too; may share memory.
  TensorMap evaluated_weights() const { return average_ ? average_->state() : optimizer_->averaged_weights(); }

 private:
  Tensor accumulate_gradients(const Questions& questions, StepLook* watched, const Tensor& loss_scale = {});
  Tensor pass_apart(const Questions& questions, const Tensor& count, StepLook& watched);
  Tensor pass(const Questions& questions, const Tensor& count, const Tensor& loss_scale = {});
  void unscale_gradients();
  StepNumbers gradients_of(const Questions& questions, StepLook* watched);
  void update(const StepResult& result, int64_t windows, StepLook* watched);
  void seed(int64_t step);
  std::string cause_of(double loss) const;

  DeterministicAlgorithms repeatable_;  // before anything is put onto the device
  Transformer& model_;
  TrainOptions options_;
  bool dropout_, drops_rows_;
  double rate_factor_ = 1;
  LossScale loss_scale_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<CapturedStep> captured_;  ///< of `cuda_graph`, or null
  std::optional<WeightAverage> average_;
};

}  // namespace attnscale
