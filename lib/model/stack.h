#pragma once

#include <map>
#include <memory>
#include <vector>

#include "model/attention_choice.h"
#include "model/block.h"
#include "model/position_bias.h"

// B batch, T positions, M model width

namespace attnscale {

/// Blocks one above the other, with what they share: rotary tables and the positions' bias on the logits.
class Stack {
 public:
  /// Registers with the owner `position_bias`, where positions are one, and `blocks.<i>`.
  /// @param place   StackPlace::encoder, or the other, whose blocks get cross-attention where the head has an encoder
  /// @param prefix  of the owner's parameters, which seeds are drawn by
  Stack(torch::nn::Module& owner, const ModelOptions& options, const AttentionChoice& attention, int64_t context,
        StackPlace place, const std::string& prefix, uint64_t init_seed, std::shared_ptr<RowDrops> drops);

  /// @param x       [B, T, M] @param offset  position of the first row
  /// @param states  one of each block, that the T positions are appended to; null: all positions at once
  /// @param above   what reads the result
  /// @param memory  the encoder's output [B, S, M], for blocks with cross-attention
  /// @return        what `above` reads, [B, T, M]
  Tensor forward(Tensor x, int64_t offset, std::vector<State>* states, const Reader& above, const Tensor& memory = {});

  /// The positions' bias for T positions at once, [1, H, T, T]; undefined where there is none.
  Tensor bias(int64_t count, const Tensor& like) const;

  const std::vector<std::shared_ptr<Block>>& blocks() const { return blocks_; }

  /// As Transformer::checkpoint_activations.
  void checkpoint_activations(bool on) { checkpointing_ = on; }

  /// As Transformer::keep_float32.
  void keep_float32(const Float32Parts& parts) {
    for (const auto& block : blocks_) block->keep_float32(parts);
  }

  /// The sum of what the blocks add to the training loss of the latest `forward`, a scalar; undefined: nothing.
  /// Forgotten once taken.
  Tensor take_auxiliary_loss();

 private:
  Tensor recomputed_block(size_t layer, const Tensor& x, int64_t offset, const Tensor& bias, const Tensor& memory);

  bool checkpointing_ = false;
  std::vector<Tensor> auxiliary_losses_;  // of blocks that are recomputed: what their layers hold is not in the graph
  std::shared_ptr<RowDrops> drops_;
  std::shared_ptr<PositionBias> position_bias_;  // null unless positions are a bias on the logits
  std::vector<std::shared_ptr<Block>> blocks_;
};

/// What the decoder of head encoder_decoder looks at: blocks that see both ways, and a final norm.
/// Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
/// Holds `position_bias`, `blocks.<i>` and `final_norm`, as the model does.
class Encoder : public torch::nn::Module {
 public:
  Encoder(const ModelOptions& options, const AttentionChoice& attention, int64_t context, uint64_t init_seed,
          std::shared_ptr<RowDrops> drops);

  /// @param x  [B, S, M], embedded @return the same shape
  Tensor forward(const Tensor& x);

  Stack& stack() { return *stack_; }

 private:
  std::unique_ptr<Stack> stack_;
  std::shared_ptr<Norm> final_norm_;
};

}  // namespace attnscale
