#pragma once

#include <memory>
#include <vector>

#include "attention/attention.h"
#include "model/options.h"

// B batch, T positions, V vocabulary

namespace attnscale {

/// What decoding a whole model carries: one attention state per layer and the position reached.
struct ModelState {
  std::vector<State> layers;
  int64_t length = 0;
  int64_t bytes() const;
};

/// Decoder-only transformer with pre-norm blocks (Radford et al. 2019, section 2.3).
class Transformer : public torch::nn::Module {
 public:
  /// Parameters are float32, initialised as in GPT-2 from `init_seed` alone.
  /// @param options  resolved
  Transformer(const ModelOptions& options, const AttentionChoice& attention, int64_t context, uint64_t init_seed);
  ~Transformer() override;

  /// @param tokens  int64 [B, T], T <= context
  /// @return        logits [B, T, V]
  Tensor forward(const Tensor& tokens);

  ModelState new_state(int64_t batch) const;

  /// Appends T tokens to the state. @return logits [B, T, V], equal to the last T of `forward`
  Tensor decode(const Tensor& tokens, ModelState& state);

  const ModelOptions& options() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace attnscale
