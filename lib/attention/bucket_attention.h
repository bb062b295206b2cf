#pragma once

#include "attention/attention.h"
#include "tensor/linear.h"

// B batch, H heads, r rounds, T positions, D key width, E value width, M width of the residual stream
//
// Attention inside buckets (by hashing or clustering), with one projection for queries and keys: what `lsh` and
// `routing` share.
//
// The papers sort positions by bucket, cut the order into chunks and let a chunk see itself and the one before. Where
// the cuts fall depends on later positions, so that their causal form lets the future decide who is seen. Here the
// order is the same, by (bucket, position), but each query looks back a fixed number of places inside its own bucket.
// What lies before a query in its bucket are earlier positions alone, so nothing later matters. A chunk's query sees
// as many places on average as a window of 1.5 chunks.

namespace attnscale {

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the union of the rounds' windows. The window of t in a round:
/// causal the latest `window` members of its bucket, the own position included; bidirectional window / 2 before and
/// (window - 1) / 2 after in the bucket's order.
class BucketAttention : public Attention {
 public:
  struct Buckets {
    int64_t rounds = 1, window = 64;
    bool self_last = false;  ///< a position sees itself only when it sees nothing else
  };

  BucketAttention(const Geometry& geometry, const Buckets& buckets);

  Tensor forward(const Inputs& in) final;
  State new_state(int64_t batch, torch::TensorOptions options) const final;  ///< shared and value rows so far

  /// From an empty state as in `forward`; later, all logits of the new queries are computed, and those outside their
  /// windows are hidden.
  Tensor decode(const Inputs& in, State& state) final;
  Tensor oracle(const Inputs& in) const final;

  /// All but what `assigned` costs.
  static Cost bucket_cost(const Geometry& geometry, const Buckets& buckets, const Sizes& sizes);
  static int64_t projection_parameters(const Geometry& geometry);

 protected:
  struct Pair {
    Tensor query, key;
  };
  /// Queries and keys from the shared projection [.., D].
  virtual Pair looked_up(const Tensor& shared) const = 0;

  /// The same for the oracle by the paper's equation, in float64: shared [D] -> [D] each.
  virtual Pair oracle_pair(const Tensor& shared) const = 0;

  /// Bucket of each position: shared [B, H, T, D] -> int64 [B, H, r, T].
  virtual Tensor assigned(const Tensor& shared) const = 0;

  /// The same by the paper's equation, in float64: shared [D] -> the bucket in each round.
  virtual std::vector<int64_t> oracle_buckets(const Tensor& shared, int64_t head) const = 0;

  /// Called with the shared projection [B, H, T, D] of a forward pass in training, and with its padding.
  virtual void observe(const Tensor& /*shared*/, const Tensor& /*key_padding*/) {}

 private:
  Tensor heads_of(const Tensor& hidden, const attnscale::Linear& projection, int64_t width) const;
  Tensor projected(const Tensor& attended, torch::ScalarType type) const;
  Tensor windowed(const Tensor& shared, const Tensor& value, const Tensor& key_padding) const;

  Buckets buckets_;
  std::shared_ptr<attnscale::Linear> shared_, value_, output_;
};

/// [.., D] with length 1 (zeros stay zeros).
Tensor unit_rows(const Tensor& x);

}  // namespace attnscale
