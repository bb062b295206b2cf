#pragma once

#include <memory>

#include "attention/position_table.h"
#include "model/norm.h"
#include "model/position.h"

// B batch, T positions, M model width, E embedding_dim, V vocabulary

namespace attnscale {

/// Tokens and their positions as vectors of the residual stream, and the way back that a tied head takes.
///   e = token[x_t], factorised: up token[x_t]; times sqrt(M) with embedding_scale
///   learned:       e + position[t]       (GPT-2)
///   sinusoidal:    e + sinusoid(t)       (Vaswani et al. 2017, sections 3.4 and 3.5)
///   otherwise:     e, as positions enter elsewhere or not at all
/// and last, with embedding_norm, `norm`.
/// Holds `token` [V, M], factorised [V, E] and `up.weight` [M, E] (Lan et al. 2019, arXiv:1909.11942, section 3.1,
/// whose map has a bias), for learned positions `position` [context, M], and `norm.*`.
class Embedding : public torch::nn::Module {
 public:
  Embedding(const ModelOptions& options, int64_t context);

  /// @param tokens  int64 [B, T]
  /// @param offset  position of the first token
  /// @return        [B, T, M]
  Tensor forward(const Tensor& tokens, int64_t offset);

  /// What a tied head makes of the stream: the product with every token's e, unscaled.
  /// @param x  [B, T, M] @return [B, T, V]
  Tensor logits(const Tensor& x) const;

  /// As Transformer::keep_float32, of the factorised embedding's map into the stream.
  void keep_float32(bool so) { float32_ = so; }

  const Tensor& token() const { return token_; }

 private:
  Tensor token_, position_;
  PositionTable sinusoid_;
  bool sinusoidal_, float32_ = false;
  double scale_;
  std::shared_ptr<Linear> up_;  // null unless factorised
  std::shared_ptr<Norm> norm_;  // null without embedding_norm
};

}  // namespace attnscale
