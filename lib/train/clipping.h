#pragma once

#include <optional>

#include "train/optimizer.h"

namespace attnscale {

/// Norm of all gradients taken as one vector, a scalar tensor; zero if there are none.
Tensor gradient_norm(const std::vector<Slot>& slots);

/// What all gradients are multiplied by where `clip` limits them together; nothing where it does not.
/// @param norm  `gradient_norm`, on the host
std::optional<double> common_factor(double norm, const TrainOptions& options);

/// Limits the gradients as `clip` says:
///   global_norm     all are multiplied by min(1, clip_norm / norm of all); Pascanu et al. 2013, arXiv:1211.5063,
///                   section 3.2
///   per_layer_norm  likewise, but each layer for itself: a block, the embeddings, the final norm, the head
///   value           each number is brought into [-clip_value, clip_value]; Mikolov 2012
/// A limit of 0 leaves them as they are.
/// @param norm  `gradient_norm`, on the host
void clip_gradients(const std::vector<Slot>& slots, double norm, const TrainOptions& options);

}  // namespace attnscale
