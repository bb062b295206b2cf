#pragma once

#include "attention/position_table.h"
#include "model/options.h"
#include "model/position.h"
#include "tensor/linear.h"

// B batch, T positions, M model width, V vocabulary

namespace attnscale {

/// Tokens and their positions as vectors of the residual stream. Holds `token` [V, M] and, for learned positions,
/// `position` [context, M].
///   learned:       token[x_t] + position[t]                    (GPT-2)
///   sinusoidal:    sqrt(M) token[x_t] + sinusoid(t)            (Vaswani et al. 2017, sections 3.4 and 3.5)
///   rotary, none:  token[x_t]
class Embedding : public torch::nn::Module {
 public:
  Embedding(const ModelOptions& options, int64_t context);

  /// @param tokens  int64 [B, T]
  /// @param offset  position of the first token
  /// @return        [B, T, M]
  Tensor forward(const Tensor& tokens, int64_t offset);

  /// The weights that a tied head uses, [V, M].
  const Tensor& token() const { return token_; }

 private:
  Tensor token_, position_;
  PositionTable sinusoid_;
  bool sinusoidal_;
};

}  // namespace attnscale
