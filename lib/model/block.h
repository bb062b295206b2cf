#pragma once

#include <memory>
#include <optional>

#include "model/feed_forward.h"
#include "model/mixer.h"
#include "model/mixture_of_experts.h"
#include "model/residual.h"

// B batch, T positions, M model width

namespace attnscale {

/// The mixer, cross-attention where the head has an encoder, then the feed-forward network, each joined to the residual
/// stream as `Residual` says; in parallel blocks both read the same norm of the stream: x + s mixer(norm1(x)) + s
/// feed_forward(norm1(x)). Source: Radford et al. 2019 (GPT-2), section 2.3; parallel: Wang and Komatsuzaki 2021
/// (GPT-J).
class Block : public torch::nn::Module {
 public:
  /// @param drops  the model's, which stochastic depth draws from
  /// @param cross  with `norm3` and `residual3` around it, `cross`; null: none
  Block(const ModelOptions& options, int64_t layer, std::shared_ptr<Mixer> mixer, std::shared_ptr<RowDrops> drops,
        std::shared_ptr<Mixer> cross = nullptr);

  /// @param x  [B, T, M] @param offset, state, bias  as in Mixer::forward @param memory  what `cross` looks at
  /// @return   [B, T, M]
  Tensor forward(const Tensor& x, int64_t offset, State* state, const Tensor& bias = {}, const Tensor& memory = {}) {
    return forward(Flow{x}, {}, offset, state, bias, memory).stream;
  }

  /// The same in a row of blocks. @param next  what reads the result, which holds what that reads if it costs nothing;
  /// no norm: unknown
  Flow forward(const Flow& in, const Reader& next, int64_t offset, State* state, const Tensor& bias,
               const Tensor& memory);

  /// How the block reads the stream.
  Reader reader() const { return first_.reader(); }

  /// What the variant receives when the block gets x [B, T, M] from position 0 on.
  Inputs attention_inputs(const Tensor& x, const Tensor& bias = {}) { return mixer_->inputs(first_.read({x}), bias); }

  /// As Transformer::keep_float32.
  void keep_float32(const Float32Parts& parts);

  Mixer& mixer() { return *mixer_; }
  const Mixer& mixer() const { return *mixer_; }

  /// What the latest training-mode `forward` adds to the training loss, a scalar; undefined: nothing. Forgotten once
  /// taken.
  Tensor take_auxiliary_loss();

 private:
  bool parallel_, float32_feed_forward_ = false;
  /// Whether what reads the norm makes matrix products of it and nothing else.
  bool first_only_multiplies_, second_only_multiplies_;
  Residual first_, second_;
  std::optional<Residual> third_;
  std::shared_ptr<Mixer> mixer_, cross_;
  std::shared_ptr<FeedForward> feed_forward_;  // null where there are experts
  std::shared_ptr<MixtureOfExperts> experts_;  // null where there are none
};

}  // namespace attnscale
