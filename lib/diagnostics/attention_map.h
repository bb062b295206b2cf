#pragma once

#include <string>
#include <vector>

#include "attention/attention.h"

// H heads, T positions, E value width, M width of the residual stream

namespace attnscale {

/// How much each position takes from each other one, for any variant: [H, T, T], row t for the output at t.
///
/// For a variant that weights values, softmax or linear or recurrent, it is the matrix A with y_t = sum_s A_ts v_s,
/// read off the Jacobian to the values: A_ts = (1/E) sum_e dy_te / dv_se. A variant that mixes a value's numbers (a
/// convolution over keys and values) has this mean of the diagonal too.
///
/// A variant that owns its projections has no values of its own to look at; there it is the influence of the residual
/// stream, the Frobenius norm of dy_t / dx_s divided by sqrt(M), estimated with `probes` random directions, H = 1.
///
/// @param inputs  of one sequence (B = 1), without padding; T = S
/// @param probes  random sign vectors; one is exact for variants that never mix a value's numbers
/// Cost: H probes backward passes over T copies of the sequence.
Tensor implied_attention(Attention& attention, const Inputs& inputs, int64_t probes = 1);

/// What a map says, one number per head, means over the positions; of a causal map over t >= 1 (the first has no
/// choice).
struct AttentionStatistics {
  std::vector<double> entropy;         ///< of the weights' absolute values as a distribution, nats
  std::vector<double> share_of_limit;  ///< that entropy over that of uniform attention, ln(t + 1), not causal ln T
  std::vector<double> distance;        ///< mean of |t - s| under the same distribution, positions
  std::vector<double> to_itself;       ///< weight of s = t in it
  std::vector<double> to_first;        ///< weight of s = 0 in it
  std::vector<double> negative;        ///< share of the absolute weight that is negative
  std::vector<double> rank;            ///< exp of the entropy of the normalised singular values (Roy and Vetterli 2007)
};

/// @param map  [H, T, T]; rows without weight are left out
AttentionStatistics attention_statistics(const Tensor& map, bool causal = true);

}  // namespace attnscale
