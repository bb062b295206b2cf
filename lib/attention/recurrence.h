#pragma once

#include "attention/chunked_sums.h"

// B batch, H heads, T positions, n chunks of c positions, F width of queries and keys, E value width
//
// Recurrences over a state S [F, E] that decays, by chunks: what the recurrent half of the linear family is
// made of. Decays are given as logarithms g <= 0, and only exponentials of a later minus an earlier cumulative
// sum are taken, so that nothing overflows however fast a state decays.

namespace attnscale {

/// Outputs [B, H, T, E], and the state [B, H, F, E] behind the last position if it was asked for.
struct Recurred {
  Tensor outputs, state;
};

/// How the engines below are called: `initial` [B, H, F, E] may be undefined (zeros). Without it and `with_state` they
/// run by `recurrence_kernel` where that applies, whose products are of dtype `products`; otherwise in that of value.
struct ChunkedCall {
  Tensor initial = {};
  int64_t chunk_length = 64;
  bool with_state = false;
  at::ScalarType products = at::kFloat;
};

/// One decay per head and position: S_t = exp(g_t) S_{t-1} + k_t v_t^T, y_t = S_t^T q_t.
/// Gu and Dao's "state space duality" (Dao and Gu 2024, arXiv:2405.21060, section 6) in matrix products.
/// @param query, key [B, H, T, F], or [B, 1, T, F] which all heads share; value [B, H, T, E]; log_decay [B, H, T].
///        Queries may also come in R neighbouring heads for each of the key's: [B, R H, T, F], outputs likewise.
Recurred scalar_decay(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& log_decay,
                      const ChunkedCall& call);

/// One decay per head, position and key dimension: S_t = diag(exp g_t) S_{t-1} + k_t v_t^T, y_t = S_t^T q_t.
/// Inside a chunk by halves: the right half's queries meet the left half's keys with decays taken from the
/// boundary between them, then each half is halved, so that all of it is matrix products (Yang et al. 2023,
/// arXiv:2312.06635, section 4.3 has two levels and computes the last one without products).
/// `chunk_length` is rounded down to a power of two.
/// @param query, key, log_decay [B, H, T, F], value [B, H, T, E]
Recurred diagonal_decay(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& log_decay,
                        const ChunkedCall& call);

/// The delta rule with a decay: S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}^T k_t)^T, a_t = exp(g_t),
/// y_t = S_t^T q_t. The corrections of a chunk solve one triangular system (Yang et al. 2024, arXiv:2406.06484,
/// section 3.2: the WY form; 2412.06464, section 3.3, with decay).
/// @param query, key [B, H, T, F], value [B, H, T, E], beta [B, H, T], log_decay [B, H, T] or undefined (none)
Recurred delta_rule(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& beta,
                    const Tensor& log_decay, const ChunkedCall& call);

/// Costs of calls without `initial` and `with_state`. `heads` of the sizes are the queries', `kv_heads` the states';
/// `key_heads` those that keys come in (1 or `kv_heads`).
EngineCost scalar_decay_cost(const CallSizes& sizes, int64_t key_heads, int64_t chunk_length);
EngineCost diagonal_decay_cost(const CallSizes& sizes, int64_t chunk_length);
EngineCost delta_rule_cost(const CallSizes& sizes, int64_t chunk_length);

}  // namespace attnscale
