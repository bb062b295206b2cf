#pragma once

#include <torch/types.h>

#include "data/source.h"
#include "model/options.h"

// R rows, T context, N targets of a window, its last ones: T, or as `num_outputs` says

namespace attnscale {

using torch::Tensor;

/// Stands at the targets that do not count.
inline constexpr int64_t not_asked = -100;

/// What a model reads of a batch, and what its head (model.head) is asked for.
///   next_token:   reads the first T tokens of a window, is asked for the last T
///   reconstruct:  reads the first T tokens, is asked for the same ones
///   masked_token: reads the first T tokens, of which `mask_probability` were chosen: 8 in 10 of those show the mask, 1
///                 a random token, 1 themselves; is asked for the chosen ones as they were
///                 (Devlin et al. 2018, arXiv:1810.04805, section 3.1)
///   classify:     reads the first T tokens, is asked for the last
///   encoder_decoder: reads the first T tokens, is asked for those after the encoder's input
struct Questions {
  Tensor inputs;   ///< int64 [R, T]
  Tensor targets;  ///< int64 [R, N], `not_asked` where a target does not count
};

/// May be views of the batch, which must outlive them. @param model  resolved @param seed  of what is hidden
Questions questions_of(const Batch& batch, const ModelOptions& model, uint64_t seed);

/// `questions_of` the batch that training step `step`, 1-based, sees in a run with this seed.
Questions training_questions(const Batch& batch, const ModelOptions& model, uint64_t run_seed, int64_t step);

/// What the source knows exactly about the loss of these questions: nothing about those that its predictor does not
/// answer, nor, unless a task's, about a part of the window.
std::optional<Truth> truth_of(const Source& source, const ModelOptions& model, int64_t context);

/// Whether the source's ideal predictor answers the questions of a head, so that its loss is theirs: not those about
/// hidden inputs, which it would have to tell from both sides.
bool bayes_predictor_answers(const std::string& head);

}  // namespace attnscale
