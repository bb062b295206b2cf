#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "attention/attention.h"
#include "model/float32_parts.h"
#include "model/options.h"

// B batch, T positions, V vocabulary

namespace attnscale {

/// What decoding a whole model carries: one attention state per layer and the position reached.
struct ModelState {
  std::vector<State> layers;
  int64_t length = 0;
  int64_t bytes() const;
};

/// Transformer of one stack of blocks, causal or not, or with head encoder_decoder of an encoder and a decoder; with
/// the options' defaults, GPT-2 (Radford et al. 2019, section 2.3), with head masked_token and norms after the
/// sublayers BERT (Devlin et al. 2018, section 3).
///
/// Parameter names, which checkpoints rely on (M model width, V vocabulary; `bias` beside `weight` where biases are
/// on):
///   embedding.token [V, M], embedding.position [context, M] (learned positions only),
///   blocks.<i>.norm1.weight, blocks.<i>.mixer.{qkv,output}.weight, blocks.<i>.mixer.gates.<name>.weight,
///   blocks.<i>.mixer.attention.* (the variant's own), blocks.<i>.norm2.weight,
///   blocks.<i>.feed_forward.{up,down}.weight (gated: gate_up instead of up; MixtureOfExperts tells its own),
///   final_norm.weight, head.weight [V, M] (untied only).
/// With an encoder, `encoder.*` (Encoder), and in the decoder's blocks `cross` and `norm3` beside the others.
/// Options add more, each told by its class (Embedding, PositionBias, Norm, Residual, Mixer; `reconstruction.*` by
/// Reconstruction); an untied head on a
/// factorised embedding is head.weight [V, E] after head_down.weight [E, M].
class Transformer : public torch::nn::Module {
 public:
  /// Parameters are float32, initialised from `init_seed` alone.
  /// Dropout, on in training mode only, draws from the default generator, stochastic depth from one of its own.
  /// @param options  resolved
  /// @throws ConfigError with the first of `model_problems`
  Transformer(const ModelOptions& options, const AttentionChoice& attention, int64_t context, uint64_t init_seed);
  ~Transformer() override;

  /// @param tokens  int64 [B, T], T <= context
  /// @return        logits [B, T, V]: of the token after each position; heads reconstruct and masked_token: of the
  ///                token at it; classify: [B, 1, V], of the window's answer; encoder_decoder: [B, T + 1 - S, V], of
  ///                the token after each position from the last of the S input tokens on
  /// @throws ShapeError if there are more positions than the context
  Tensor forward(const Tensor& tokens);

  /// What stochastic depth draws from here on. @param seed  of one step
  void seed_stochastic_depth(uint64_t seed);

  /// Whether forward passes in training mode keep of each block only what it was given, for the backward pass to
  /// compute its activations again (`recomputed`): same gradients, less memory, the blocks' forward pass once more.
  void checkpoint_activations(bool on);

  /// Whose products stay float32 in forward passes under mixed precision; without it nobody's.
  void keep_float32(const Float32Parts& parts);

  /// An empty state in the parameters' dtype. @throws ConfigError if the variant does not decode, or the head
  ModelState new_state(int64_t batch) const;

  /// Appends T tokens to the state. @return logits [B, T, V], equal to the last T of `forward`
  /// @throws ShapeError if the context would be passed
  Tensor decode(const Tensor& tokens, ModelState& state);

  /// Runs `forward` without gradients and shows every layer's variant with what it receives. Not with an encoder.
  /// @param look  (layer, variant, inputs), in order of the layers; may run the variant itself
  /// @param stream  (layer, what the block puts out, [B, T, M]); may be empty
  void observe(const Tensor& tokens, const std::function<void(int64_t, Attention&, const Inputs&)>& look,
               const std::function<void(int64_t, const Tensor&)>& stream = {});

  /// The sum of what the layers' variants and routers of experts add to the training loss of the latest `forward` (a
  /// scalar); undefined when none adds anything. Forgotten once taken.
  Tensor take_auxiliary_loss();

  const ModelOptions& options() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace attnscale
