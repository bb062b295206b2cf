#pragma once

#include <optional>

#include <torch/types.h>

#include "tensor/kernels/vector_functions.h"

// B batch, H heads, G heads of keys, each with a state of its own (G divides H), T positions, D width of queries and
// keys, F features that are made of them, E value width

namespace attnscale {

using torch::Tensor;

/// The most positions of a chunk: it meets itself as one tile.
inline constexpr int64_t longest_chunk = 64;

/// Which sums over the past `recurrence_kernel` makes, and how.
struct RecurrenceCall {
  at::ScalarType dtype = at::kFloat;   ///< of the products
  at::ScalarType output = at::kFloat;  ///< float32 or bfloat16
  int64_t chunk_length = longest_chunk;  ///< at most `longest_chunk`

  FeatureMap map = FeatureMap::none;
  double offset = 0;  ///< of the map
  Tensor projection =
      {};  ///< float32 [F, D]: features are exp(W x' - |x'|^2 / 2), x' = x / D^(1/4), of which a query's
           ///< largest is 1, and the largest of all keys so far (Performer, arXiv:2009.14794). No gradient

  /// The outputs are divided by the sum of their weights plus this, by `floor` if that is more; nothing: they are not.
  std::optional<double> epsilon = {};
  double floor = 0;

  double flops = 0;  ///< that FlopCounter is told of, as the twin would; twice as many backward
};

/// The dtype of products for values of this dtype outside autocast; nothing: the kernel does not take them.
/// @param x  query, key, value and whatever else comes in
std::optional<at::ScalarType> recurrence_dtype(at::ScalarType value_dtype, std::initializer_list<Tensor> x);

/// y_t = S_t^T q_t by chunks of at most 64 positions, causal, with the gradients of all that comes in:
///   without `beta`  S_t = exp(g_t) S_{t-1} + k_t v_t^T                                    (g undefined: no decay)
///   with it         S_t = a S_{t-1} + b_t k_t (v_t - a S_{t-1}^T k_t)^T, a = exp(g_t)     (the delta rule)
/// Inside a chunk all pairs meet as tiles, between chunks the state does. Keeps the state that each chunk finds, and
/// makes everything else again in the backward pass. Sources: as the twins, `causal_sums`
/// (lib/attention/chunked_sums.h), `scalar_decay`, `diagonal_decay` and `delta_rule` (lib/attention/recurrence.h).
/// @param query  [B, H, T, D] @param key  [B, G, T, D], not more than expanded where all heads share it
/// @param value  [B, G, T, E] @param log_decay  g <= 0, [B, G, T] or, without beta, [B, G, T, D]; or undefined
/// @param beta   [B, G, T] or undefined; H = G then
/// @return [B, H, T, E], of `call.output`, laid out [B, T, H, E]
/// Cost: 2 (2 c (F + E) / 2 + 2 F E) FLOPs a position in chunks of c, of which the hidden half is made too; memory
/// F E / c numbers a position.
Tensor recurrence_kernel(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& log_decay,
                         const Tensor& beta, const RecurrenceCall& call);

}  // namespace attnscale
