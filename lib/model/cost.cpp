#include "model/cost.h"

#include "attention/registry.h"
#include "model/attention_choice.h"
#include "model/position_bias.h"

// B batch, T context, M model width, H heads, G key-value heads, D head width, F ffn_dim, E embedding_dim, V vocabulary

namespace attnscale {
namespace {

/// Parameters of a norm over `width` numbers.
int64_t norm_size(const std::string& kind, int64_t width, bool with_bias) {
  if (kind == "none") return 0;
  return width + (with_bias && kind != "rms_norm" ? width : 0) + (kind == "dynamic_tanh" ? 1 : 0);
}

/// Numbers for each one put in that a norm keeps for the backward pass: its output, and what RMSNorm divides or dynamic
/// tanh squashes.
int64_t norm_kept(const std::string& kind) {
  if (kind == "none") return 0;
  return kind == "layer_norm" ? 1 : 2;
}

/// Numbers of one layer, counted from the same shapes that the modules register.
struct LayerSizes {
  int64_t matrices = 0;     ///< weights of linear layers: each is one multiply-add per position
  int64_t vectors = 0;      ///< biases, norms and factors of residuals
  int64_t variant = 0;      ///< the variant's own parameters
  int64_t idle = 0;         ///< parameters of the experts that a position does not use
  int64_t activations = 0;  ///< float32 numbers kept per position for the backward pass, without the variant's own
  int64_t masks = 0;        ///< bytes per position: dropout masks
};

/// F numbers that the feed-forward network keeps beyond what its linear layers put out.
int64_t activated(const std::string& kind) {
  if (is_gated(kind)) return 2;   // the activated gate and the product
  return kind == "relu" ? 0 : 1;  // ReLU's output says what its input was
}

/// Norms and factors around the sublayers.
void add_residuals(const ModelOptions& options, LayerSizes& sizes) {
  const int64_t M = options.model_dim;
  const auto& placement = options.norm_placement;
  const int64_t norms = placement == "both" ? 4 : placement == "parallel" ? 1 : 2;
  sizes.vectors += norms * norm_size(options.norm, M, options.bias);
  sizes.activations += norms * norm_kept(options.norm) * M;
  if (placement == "both") sizes.activations += 2 * M;  // the stream beside what the sublayers put out
  if (options.residual == "rezero") sizes.vectors += 2;
  if (options.residual == "layer_scale") sizes.vectors += 2 * M;
  if (options.residual == "rezero" || options.residual == "layer_scale") sizes.activations += 2 * M;
  if (options.dropout > 0) sizes.masks = 2 * M;
}

/// The network, or the router and the experts that a position uses.
void add_feed_forward(const ModelOptions& options, LayerSizes& sizes) {
  const int64_t M = options.model_dim, F = options.ffn_dim.value(), E = options.experts;
  const int64_t inner = is_gated(options.feed_forward) ? 2 * F : F, K = E > 1 ? options.experts_per_token : 1;
  const int64_t matrices = M * inner + F * M, vectors = options.bias ? inner + M : 0;
  sizes.matrices += K * matrices;
  sizes.vectors += K * vectors;
  sizes.activations += K * (inner + M + activated(options.feed_forward) * F);
  if (E == 1) return;
  sizes.matrices += M * E;
  sizes.activations += 3 * E + K * 2 * M;  // logits, probabilities and a copy; what an expert reads, and its share
  sizes.idle = (E - K) * (matrices + vectors);
}

LayerSizes layer_sizes(const ModelOptions& options, const VariantInfo& variant, const Json& variant_options,
                       const Geometry& geometry) {
  const int64_t M = options.model_dim, H = geometry.num_heads, G = geometry.num_kv_heads, D = geometry.head_dim;
  const int64_t bias = options.bias ? 1 : 0;
  LayerSizes sizes;
  const auto linear = [&](int64_t in, int64_t out) {
    sizes.matrices += in * out;
    sizes.vectors += bias * out;
    sizes.activations += out;
  };
  if (!variant.traits.contains(Trait::owns_projections)) {
    linear(M, (H + 2 * G) * D);
    for (const auto& gate : variant.gates(variant_options, geometry)) linear(M, H * gate.width);
    linear(H * D, M);
    sizes.activations += H * D;  // the mixed values
    if (options.position == "rotary") sizes.activations += (H + G) * D;
    sizes.vectors += 2 * norm_size(options.qk_norm, D, false);
    sizes.activations += norm_kept(options.qk_norm) * (H + G) * D;
  } else {
    sizes.activations += M;  // what it returns
  }
  add_feed_forward(options, sizes);
  sizes.variant = variant.parameter_count(variant_options, geometry);
  add_residuals(options, sizes);
  return sizes;
}

/// What `model.head` puts between the blocks and the head's matrix.
LayerSizes head_sizes(const ModelOptions& options) {
  LayerSizes sizes;
  if (options.head != "reconstruct") return sizes;
  const int64_t M = options.model_dim;
  sizes.matrices = 2 * M * M;
  sizes.vectors = 2 * (norm_size(options.norm, M, options.bias) + (options.bias ? M : 0));
  sizes.activations = M + 2 * (norm_kept(options.norm) + 2) * M;  // the sum, and each layer's norm, product and GELU
  return sizes;
}

struct Totals {
  ParameterLedger parameters;
  double linear_flops = 0;  ///< one position forward, all layers
  double head_flops = 0;    ///< one output forward
  Cost attention;           ///< one batch forward, all layers
  int64_t activations = 0, masks = 0;
  int64_t idle = 0;                        ///< parameters that a position does not use
  std::optional<int64_t> state_bytes = 0;  ///< all layers, or none as soon as one of them keeps no state
};

Totals totals_of(const ModelOptions& options, const AttentionChoice& attention, int64_t context, int64_t batch) {
  const int64_t M = options.model_dim, V = options.vocab_size.value(), E = options.embedding_dim.value();
  Totals totals;
  int64_t blocks = 0;
  for (int64_t layer = 0; layer < options.depth; ++layer) {
    const auto& choice = at_layer(attention, layer);
    const auto& variant = variant_named(choice.variant);
    const auto geometry = attention_geometry(options, context, layer);
    const auto sizes = layer_sizes(options, variant, choice.options, geometry);
    blocks += sizes.matrices + sizes.vectors + sizes.variant + sizes.idle;
    totals.idle += sizes.idle;
    totals.linear_flops += 2.0 * static_cast<double>(sizes.matrices);
    totals.activations += sizes.activations;
    totals.masks += sizes.masks;
    const auto cost = variant.cost(choice.options, geometry, {.batch = batch, .queries = context, .keys = context});
    totals.attention.algorithmic_flops += cost.algorithmic_flops;
    totals.attention.executed_flops += cost.executed_flops;
    totals.attention.activation_bytes += cost.activation_bytes;
    if (!variant.traits.contains(Trait::incremental)) totals.state_bytes.reset();
    else if (totals.state_bytes)
      *totals.state_bytes +=
          variant.cost(choice.options, geometry, {.batch = 1, .queries = context, .keys = context}).state_bytes;
  }
  const auto between = head_sizes(options);
  blocks += between.matrices + between.vectors;
  totals.activations += between.activations;
  // A factorised embedding is a matrix product on the way in, and one more on the way out.
  const bool factorised = E != M;
  const int64_t head = V * E + (factorised ? E * M : 0), embedding = head;
  totals.linear_flops += 2.0 * static_cast<double>(factorised ? E * M : 0);
  totals.head_flops = 2.0 * static_cast<double>(head + between.matrices);

  const int64_t final_norm = *options.final_norm ? norm_size(options.norm, M, options.bias) : 0;
  const int64_t positions = options.position == "learned"    ? context * M
                            : options.position == "relative" ? options.relative_buckets * options.num_heads
                                                             : 0;
  const int64_t embedding_norm = options.embedding_norm ? norm_size(options.norm, M, options.bias) : 0;
  auto& parameters = totals.parameters;
  parameters.non_embedding = blocks + final_norm;
  parameters.without_input_embedding = parameters.non_embedding + head;
  parameters.total =
      parameters.non_embedding + embedding + positions + embedding_norm + (options.tie_embeddings ? 0 : head);
  parameters.active = parameters.total - totals.idle;
  parameters.standard_block = 12 * options.depth * M * M;
  return totals;
}

}  // namespace

Json ParameterLedger::to_json() const {
  return {{"total", total},
          {"active", active},
          {"non_embedding", non_embedding},
          {"without_input_embedding", without_input_embedding},
          {"standard_block", standard_block}};
}

Json FlopLedger::to_json() const {
  return {{"six_n", six_n}, {"six_n_with_head", six_n_with_head}, {"algorithmic", algorithmic}, {"executed", executed}};
}

ModelCost model_cost(const ModelOptions& options, const AttentionChoice& attention, int64_t context, int64_t batch) {
  const auto totals = totals_of(options, attention, context, batch);
  const int64_t M = options.model_dim, V = options.vocab_size.value(), positions = batch * context;
  ModelCost cost;
  cost.parameters = totals.parameters;
  cost.flops_per_token.six_n = 6.0 * static_cast<double>(totals.parameters.non_embedding - totals.idle);
  cost.flops_per_token.six_n_with_head =
      6.0 * static_cast<double>(totals.parameters.without_input_embedding - totals.idle);
  const double tokens = static_cast<double>(positions);
  const auto outputs = num_outputs(options, context);
  const double products =
      totals.linear_flops + totals.head_flops * static_cast<double>(outputs) / static_cast<double>(context);
  cost.flops_per_token.algorithmic = 3 * (products + totals.attention.algorithmic_flops / tokens);
  cost.flops_per_token.executed = 3 * (products + totals.attention.executed_flops / tokens);

  // Weights, gradients and two moments are 16 bytes a parameter. The most is held at the start of the backward pass:
  // all activations (the embedding's and the final norm's output beside the layers'), logits, log-probabilities and the
  // gradients of both.
  const int64_t embedding_norm = options.embedding_norm ? norm_kept(options.norm) * M : 0;
  const int64_t numbers = totals.activations + 2 * M + embedding_norm;
  const int64_t masks = totals.masks + (*options.embedding_dropout > 0 ? M : 0);
  cost.training_bytes =
      16 * totals.parameters.total + positions * (4 * numbers + masks) + totals.attention.activation_bytes;
  cost.training_bytes += 4 * batch * outputs * 4 * V;
  if (has_logit_bias(options)) {
    // The masked bias of each layer, and for one that is trained the weights, which the fused kernel would not keep.
    const int64_t squares = options.position == "relative" ? batch + 1 : 1;
    cost.training_bytes += float_bytes * options.depth * options.num_heads * context * context * squares;
  }
  if (*options.causal) cost.state_bytes = totals.state_bytes;
  return cost;
}

double forward_flops(const ModelOptions& options, const AttentionChoice& attention, int64_t context, int64_t batch) {
  const auto totals = totals_of(options, attention, context, batch);
  return totals.linear_flops * static_cast<double>(batch * context) +
         totals.head_flops * static_cast<double>(batch * num_outputs(options, context)) +
         totals.attention.executed_flops;
}

}  // namespace attnscale
