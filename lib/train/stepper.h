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

/// Cross entropy of every next token. @param tokens  int64 [R, T + 1], on the model's device
/// @return scalar for `at::Reduction::Mean`, [R * T] for `at::Reduction::None`; float32, or float64 for float64 logits
Tensor next_token_loss(Transformer& model, const Tensor& tokens, const std::string& dtype,
                       at::Reduction::Reduction how);

/// What turns one batch into one update: forward, backward, clipping by the global norm (Pascanu et al. 2013,
/// arXiv:1211.5063, section 3.2), AdamW at the schedule's rate. Knows nothing of data, files or evaluation.
class Stepper {
 public:
  /// Puts the model into training mode, onto `device`, and into the dtype of its weights.
  Stepper(Transformer& model, const TrainOptions& options);

  /// Update number `step`, 1-based. @param tokens  int64 [R, T + 1], on any device
  StepResult step(const Tensor& tokens, int64_t step);

  AdamW& optimizer() { return optimizer_; }

 private:
  Transformer& model_;
  TrainOptions options_;
  bool dropout_;
  AdamW optimizer_;
};

}  // namespace attnscale
