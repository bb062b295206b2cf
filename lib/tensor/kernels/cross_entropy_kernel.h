#pragma once

#include <torch/types.h>

// V vocabulary

namespace attnscale {

using torch::Tensor;

struct CrossEntropyTerms {
  double label_smoothing = 0, z_loss = 0;
  int64_t ignored = -100;  ///< the target of a row that does not count
};

/// What is minimised, and the cross entropy alone, without gradients: scalars.
struct CrossEntropy {
  Tensor minimised, loss;
};

bool cross_entropy_has_kernel(const Tensor& logits);

/// Sums over the rows that count, or given `count` undefined their means (NaN if there are none), of
///   (1 - s) (-ln p_target) + s mean_v(-ln p_v) + z (ln sum_v exp(logit_v))^2
/// straight from the logits in their own dtype: no float32 copy, no logarithms kept, and the gradient is written once,
/// in that dtype. Plain twin: `training_objective` on at::cross_entropy_loss.
/// @param logits  float32 or bfloat16 [.., V] @param targets  int64 [..]
/// @param count   scalar tensor that divides the sums
/// @throws c10::Error if the targets have not the logits' leading sizes, of which there is at least one
CrossEntropy cross_entropy_kernel(const Tensor& logits, const Tensor& targets, const CrossEntropyTerms& terms,
                                  const Tensor& count);

}  // namespace attnscale
