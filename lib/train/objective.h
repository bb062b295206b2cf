#pragma once

#include "train/options.h"
#include "train/questions.h"

// V vocabulary

namespace attnscale {

/// Logits in float32 where they have 16 bits: sums over a vocabulary lose too much in those.
Tensor widened(const Tensor& logits);

struct Objective {
  Tensor minimised;  ///< scalar, with gradients
  Tensor loss;       ///< scalar, without: cross entropy alone, which runs of different objectives share
};

/// What training minimises, the mean over the targets that count of
///   (1 - s) (-ln p_target) + s mean_v(-ln p_v) + z (ln sum_v exp(logit_v))^2
/// with s = `label_smoothing` (Szegedy et al. 2016, arXiv:1512.00567, section 7) and z = `z_loss` (Chowdhery et al.
/// 2022, arXiv:2204.02311, section 5).
/// @param logits   [.., V], of any dtype; 16 bits are widened for the sums
/// @param targets  int64 [..], `not_asked` where a target does not count
/// @param count   scalar tensor that divides the sums, where these logits are a part of a batch; undefined: the targets
///   that count here (NaN if there are none)
/// @throws c10::Error if the targets have not the logits' leading sizes, of which there is at least one
Objective training_objective(const Tensor& logits, const Tensor& targets, const TrainOptions& options,
                             const Tensor& count = {});

}  // namespace attnscale
