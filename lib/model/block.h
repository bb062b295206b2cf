#pragma once

#include <memory>

#include "model/feed_forward.h"
#include "model/mixer.h"
#include "model/norm.h"

// B batch, T positions, M model width

namespace attnscale {

/// x + mixer(norm1(x)), then x + feed_forward(norm2(x)); dropout on both sublayers' outputs while training.
/// Source: Radford et al. 2019 (GPT-2), section 2.3.
class Block : public torch::nn::Module {
 public:
  Block(const ModelOptions& options, std::shared_ptr<Mixer> mixer);

  /// @param x  [B, T, M] @param offset, state  as in Mixer::forward @return [B, T, M]
  Tensor forward(const Tensor& x, int64_t offset, State* state);

  /// What the variant receives when the block gets x [B, T, M] from position 0 on.
  Inputs attention_inputs(const Tensor& x) { return mixer_->inputs(norm1_->forward(x)); }

  Mixer& mixer() { return *mixer_; }
  const Mixer& mixer() const { return *mixer_; }

 private:
  double dropout_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Mixer> mixer_;
  std::shared_ptr<FeedForward> feed_forward_;
};

}  // namespace attnscale
