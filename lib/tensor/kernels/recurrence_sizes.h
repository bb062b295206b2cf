#pragma once

#include "tensor/kernels/chunk_decay.h"
#include "tensor/kernels/recurrence_kernel.h"

// B batch, H heads, G states, R = H / G heads that read one, T positions, n chunks of c, D width, F features,
// E value width

namespace attnscale {

/// What goes in, and what the forward pass leaves for the backward pass.
struct RecurrenceTensors {
  Tensor query, key, value, log_decay, beta;
  Tensor output;
  Tensor states;    // float32 [B, G, n, F E + F]: each chunk's found S and, where outputs are divided, its sum of keys
  Tensor inverses;  // float32 [B, H, T]: one over the sum of weights
  Tensor largest;   // float32 [B, G, T]: with a projection, the largest exponent of the keys so far
};

struct RecurrenceGradients {
  Tensor query, key, value, log_decay, beta;
};

static_assert(longest_chunk == tile_side);

struct RecurrenceSizes {
  int64_t batch, heads, groups, positions, width, features, values, chunk, chunks;
  Decay decay;
  bool divided, corrects;

  RecurrenceSizes(const RecurrenceTensors& x, const RecurrenceCall& call)
      : batch(x.query.size(0)),
        heads(x.query.size(1)),
        groups(x.key.size(1)),
        positions(x.query.size(2)),
        width(x.query.size(3)),
        features(call.projection.defined() ? call.projection.size(0) : width),
        values(x.value.size(3)),
        decay(x.log_decay.defined()       ? (x.log_decay.dim() == 4 ? Decay::diagonal : Decay::scalar)
              : call.projection.defined() ? Decay::scalar
                                          : Decay::none),
        divided(call.epsilon.has_value()),
        corrects(x.beta.defined()) {
    chunks = (positions + call.chunk_length - 1) / call.chunk_length;
    chunk = (positions + chunks - 1) / chunks;
    chunks = (positions + chunk - 1) / chunk;
  }
  int64_t rows() const { return chunk + chunk % 2; }  // pairs of positions
  int64_t shared() const { return heads / groups; }
  int64_t state_size() const { return features * (values + divided); }
};

}  // namespace attnscale
