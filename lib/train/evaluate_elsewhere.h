#pragma once

#include "core/json.h"
#include "model/transformer.h"
#include "train/run_config.h"

namespace attnscale {

/// What the end of a run is scored on beside the validation set, each where the run asks for it:
///   training_loss  mean loss over `eval_training_tokens` targets of training windows, without dropout: validation loss
///                  less this is the generalisation gap
///   longer         {context, loss, accuracy, positions}: on windows of `eval_context` inputs, by a model that differs
///                  from the trained one in nothing but the positions that it has room for
/// The same windows for every variant and seed. @param model  of the run, with the weights to score
Json evaluate_elsewhere(const RunConfig& config, Transformer& model);

}  // namespace attnscale
