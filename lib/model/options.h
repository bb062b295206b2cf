#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/options.h"

namespace attnscale {

/// The transformer: everything but the attention variant. Optional members are
/// derived by `resolved`; after it every member is set that has an effect, except that ffn_dim stands for ffn_multiple,
/// and nothing for a mup_base_dim that changes nothing: what is one model is written in one way.
struct ModelOptions {
  int64_t depth = 2;       ///< blocks
  int64_t model_dim = 64;  ///< width of the residual stream
  int64_t num_heads = 4;
  std::optional<int64_t> num_kv_heads = {};   ///< num_heads
  std::optional<int64_t> vocab_size = {};     ///< the source's; masked_token: one more, the mask, which comes last
  std::string head = "next_token";            ///< next_token, reconstruct, masked_token, classify, encoder_decoder
  double mask_probability = 0.15;             ///< masked_token: share of the inputs that is asked for
  std::string pooling = "mean";               ///< classify: mean, first, last
  std::optional<bool> causal = {};            ///< of next_token, reconstruct and encoder_decoder
  std::optional<int64_t> input_length = {};   ///< encoder_decoder: tokens that the encoder reads; the source's
  std::optional<int64_t> encoder_depth = {};  ///< encoder_decoder: depth
  std::optional<int64_t> ffn_dim = {};        ///< 4 model_dim; gated: 8/3 model_dim rounded up to a multiple of 8
  std::optional<double> ffn_multiple = {};    ///< gives ffn_dim as a multiple of model_dim, rounded
  std::string position = "learned";           ///< learned, sinusoidal, rotary, alibi, relative, none
  std::string norm = "layer_norm";            ///< layer_norm, rms_norm, dynamic_tanh, none
  std::string norm_placement = "before";      ///< before, after, both, deep_norm, parallel
  std::optional<bool> final_norm = {};        ///< as the blocks do not end in a norm by themselves
  std::string qk_norm = "none";               ///< none, layer_norm, rms_norm: of each head's query and key
  std::string logit_scale = "root";           ///< root, inverse, none: 1 / sqrt(D), 1 / D, 1
  double dynamic_tanh_alpha = 0.5;            ///< where dynamic_tanh's alpha starts
  std::string residual = "plain";             ///< plain, scaled, rezero, layer_scale
  double layer_scale = 1e-4;                  ///< where layer_scale's factors start
  double stochastic_depth = 0;                ///< probability that a row skips a sublayer of the last block
  std::string feed_forward = "gelu";          ///< gelu, gelu_tanh, relu, relu_squared, silu, and gated ones
  int64_t experts = 1;                        ///< feed-forward networks of a block
  int64_t experts_per_token = 2;              ///< of them for each position
  double balance_loss = 0.01;                 ///< weight of the experts' load balance in the training loss
  double router_z_loss = 0;                   ///< of the router's squared log-sum
  bool bias = true;                           ///< biases of linear layers, LayerNorm and dynamic tanh
  bool tie_embeddings = true;                 ///< the head uses the embedding's weights
  std::optional<int64_t> embedding_dim = {};  ///< model_dim: not factorised
  std::optional<bool> embedding_scale =
      {};                       ///< tokens times sqrt(model_dim) (muP: mup_base_dim); sinusoidal positions do
  bool embedding_norm = false;  ///< `norm` after the embedding
  std::optional<std::string> initialisation = {};  ///< gpt2; for norm_placement deep_norm deep_norm
  double embedding_std = 0.02;                     ///< of embeddings and an untied head at the start
  std::optional<int64_t> mup_base_dim = {};        ///< the standard parametrisation
  std::optional<int64_t> mup_base_heads = {};      ///< num_heads: wider models have wider heads
  double dropout = 0;
  std::optional<double> embedding_dropout = {};  ///< dropout
  double norm_epsilon = 1e-5;
  double rotary_base = 10000;
  double rotary_share = 1;                             ///< of each head's numbers that are turned
  std::string rotary_scaling = "none";                 ///< none, linear, ntk, yarn
  double rotary_factor = 1;                            ///< of rotary_scaling
  std::optional<int64_t> rotary_trained_context = {};  ///< yarn: `trained_context`
  int64_t relative_buckets = 32;                       ///< of position relative
  int64_t relative_distance = 128;                     ///< from which on distances share the last bucket

  static const Fields& fields();
};

/// Whether a feed-forward network multiplies an activated projection with another one (Shazeer 2020).
bool is_gated(const std::string& feed_forward);

/// The ffn_dim that ffn_multiple, which must be set, gives.
int64_t multiple_of(const ModelOptions& options);

/// Positions of a window that the head makes logits for: classify 1, encoder_decoder those after the input, others all.
int64_t num_outputs(const ModelOptions& options, int64_t context);

/// model_dim / mup_base_dim, the m of the maximal update parametrisation; 1 under the standard one.
///
/// In muP for Adam (Yang et al. 2022, arXiv:2203.03466, table 3) a hidden matrix has a learning rate and a variance
/// that go as 1 / m, logits of the head are divided by m, and those of attention by the head width D instead of its
/// root, in units of the base model's (`head_width_multiple`). Here the
/// same is had under one learning rate for all parameters (their table 9, lemma J.1): a hidden matrix W acts as W / m
/// and starts m times as wide, so that it is updated by 1 / m of what the standard one would be. It holds for
/// optimisers whose step does not depend on the gradient's size: Lion and AdamW, whose weight decay then is relative to
/// the common rate, and Adam without weight decay. Adam's goes through the moments beside gradients that are m times
/// smaller, from weights m times as large, so that it would weigh m^2 times as much.
double width_multiple(const ModelOptions& options);

/// Head width / the base model's, mup_base_dim / mup_base_heads; 1 under the standard parametrisation. Queries are
/// divided by its root, on top of the 1 / sqrt(D) of every variant: 1 where a wider model has more heads, not wider
/// ones.
double head_width_multiple(const ModelOptions& options);

/// Positions that yarn takes wavelengths to be made for: rotary_trained_context, or context / rotary_factor rounded.
int64_t trained_context(const ModelOptions& options, int64_t context);

/// Fills what was left out.
/// @param source_vocab  the source's vocabulary, used when vocab_size is unset
/// @param context       data.context, for rotary_trained_context; left out: the transformer derives it
ModelOptions resolved(ModelOptions options, int64_t source_vocab, std::optional<int64_t> context = {});

/// Which attention variant, with all its options.
struct AttentionChoice {
  std::string variant = "softmax";
  Json options = Json::object();
  /// A hybrid: layer i has choice i modulo their number, and `variant` and `options` repeat one of them.
  /// Empty: every layer has `variant`. The members' own `layers` are empty.
  std::vector<AttentionChoice> layers = {};
};

}  // namespace attnscale
