#pragma once

#include <optional>

#include "core/json.h"
#include "model/options.h"

namespace attnscale {

/// Parameters counted four ways; papers differ, so each is kept.
struct ParameterLedger {
  int64_t total = 0;          ///< every number that is trained, a tied embedding once
  int64_t active = 0;         ///< total less the experts that a position does not use
  int64_t non_embedding = 0;  ///< total less embedding (its norm too), positions and untied head (Kaplan et al. 2020)
  int64_t without_input_embedding = 0;  ///< non_embedding plus the head, tied or not (Porian et al. 2024)
  int64_t standard_block = 0;           ///< 12 depth model_dim^2
  Json to_json() const;
};

/// FLOPs of one training token (forward and backward, backward counted as twice the forward). What activation
/// checkpointing computes again counts as executed only.
struct FlopLedger {
  double six_n = 0;            ///< 6 x non_embedding, of experts those that a position uses
  double six_n_with_head = 0;  ///< 6 x without_input_embedding, likewise
  double algorithmic = 0;      ///< every matrix product, attention as its definition needs
  double executed = 0;         ///< every matrix product, attention as implemented (a masked square counts whole)
  Json to_json() const;
};

struct ModelCost {
  ParameterLedger parameters;
  FlopLedger flops_per_token;
  int64_t training_bytes = 0;  ///< estimate of peak memory for one step here: weights, gradients, moments, activations
  /// Decode state of one sequence at full context, float32, all layers; none where a layer keeps none (not
  /// incremental).
  std::optional<int64_t> state_bytes = {};
};

/// Arithmetic only: no tensor is made, so that a plan of many runs is quick.
/// @param options  resolved
/// @param checkpointing  blocks are computed again in the backward pass: more FLOPs executed, less kept
/// @param products       the dtype of matrix products: where it has kernels on this machine, less is kept
ModelCost model_cost(const ModelOptions& options, const AttentionChoice& attention, int64_t context, int64_t batch,
                     bool checkpointing = false, at::ScalarType products = at::kFloat);

/// FLOPs of one training token where windows are cut to `window` of the model's `context` tokens; head next_token.
FlopLedger flops_in_window(const ModelOptions& options, const AttentionChoice& attention, int64_t context,
                           int64_t window, bool checkpointing = false);

/// Executed FLOPs of one forward pass over [batch, window], equal to what FlopCounter sees.
/// @param window  of the model's context; left out: all of it
double forward_flops(const ModelOptions& options, const AttentionChoice& attention, int64_t context, int64_t batch,
                     std::optional<int64_t> window = std::nullopt);

}  // namespace attnscale
