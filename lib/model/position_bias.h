#pragma once

#include "model/options.h"
#include "tensor/linear.h"

// H heads, T queries, S keys

namespace attnscale {

/// Whether positions enter as a bias on the logits: alibi and relative.
bool has_logit_bias(const ModelOptions& options);

/// m_h of ALiBi: 2^(-8 h / H) for heads h = 1 to H where H is a power of 2; otherwise those of the next lower power P,
/// then every other one of 2 P. Source: Press et al. 2021, arXiv:2108.12409, section 3, and its published code.
std::vector<double> alibi_slopes(int64_t num_heads);

/// T5's range of a distance back: single distances below buckets / 2, then as many ranges whose ends grow
/// geometrically up to `distance`, and everything beyond in the last.
/// Source: Raffel et al. 2019, arXiv:1910.10683, section 2.1, and its published code (causal form).
int64_t relative_bucket(int64_t back, int64_t buckets, int64_t distance);

/// Positions as a bias on each head's logits.
///   alibi:     -m_h |t - s|
///   relative:  weight[bucket(t - s), h], the same for all layers; holds `weight` [relative_buckets, H]. Without
///              `causal` the first half of the buckets is for what lies behind, the second for what lies ahead (its
///              first, of distance 0, is without use, as in T5).
class PositionBias : public torch::nn::Module {
 public:
  PositionBias(const ModelOptions& options, int64_t context);

  /// @return [1, H, T, S], the newest query at the newest key; float64 for float64 `like`, otherwise float32. In a
  ///   causal model what lies ahead of a query has the bias of its own position.
  Tensor forward(int64_t queries, int64_t keys, const Tensor& like) const;

 private:
  bool causal_;
  Tensor slopes_, buckets_;  // alibi: float64 [H]; relative: int64 [context], of each distance
  Tensor weight_;
};

}  // namespace attnscale
