#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/options.h"

namespace attnscale {

/// The decoder-only transformer: everything but the attention variant. Optional members are
/// derived by `resolved`; after it every member is set.
struct ModelOptions {
  int64_t depth = 2;       ///< blocks
  int64_t model_dim = 64;  ///< width of the residual stream
  int64_t num_heads = 4;
  std::optional<int64_t> num_kv_heads = {};  ///< num_heads
  std::optional<int64_t> vocab_size = {};    ///< the source's
  std::optional<int64_t> ffn_dim = {};       ///< 4 model_dim; for SwiGLU 8/3 model_dim rounded up to a multiple of 8
  std::string position = "learned";          ///< learned, sinusoidal, rotary, none
  std::string norm = "layer_norm";           ///< layer_norm, rms_norm: before each sublayer and at the end
  std::string feed_forward = "gelu";         ///< gelu, gelu_tanh, swiglu
  bool bias = true;                          ///< biases of linear layers and of LayerNorm
  bool tie_embeddings = true;                ///< the head uses the embedding's weights
  double dropout = 0;
  double norm_epsilon = 1e-5;
  double rotary_base = 10000;

  static const Fields& fields();
};

/// Fills what was left out. @param source_vocab the source's vocabulary, used when vocab_size is unset
ModelOptions resolved(ModelOptions options, int64_t source_vocab);

/// Which attention variant, with all its options.
struct AttentionChoice {
  std::string variant = "softmax";
  Json options = Json::object();
  /// A hybrid: layer i has choice i modulo their number, and `variant` and `options` repeat one of them.
  /// Empty: every layer has `variant`. The members' own `layers` are empty.
  std::vector<AttentionChoice> layers = {};
};

}  // namespace attnscale
