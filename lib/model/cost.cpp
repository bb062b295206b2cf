#include "model/cost.h"

#include "attention/registry.h"
#include "model/attention_choice.h"
#include "model/position_bias.h"
#include "model/scaled.h"
#include "tensor/kernels/kernels.h"

// B batch, T context, M model width, H heads, G key-value heads, D head width, F ffn_dim, E embedding_dim, V vocabulary

namespace attnscale {
namespace {

/// Parameters of a norm over `width` numbers.
int64_t norm_size(const std::string& kind, int64_t width, bool with_bias) {
  if (kind == "none") return 0;
  return width + (with_bias && kind != "rms_norm" ? width : 0) + (kind == "dynamic_tanh" ? 1 : 0);
}

/// Numbers for each one put in that a norm keeps for the backward pass: its output, and what RMSNorm (without a kernel)
/// divides or dynamic tanh squashes.
int64_t norm_kept(const std::string& kind, bool kernels) {
  if (kind == "none") return 0;
  return kind == "layer_norm" || (kind == "rms_norm" && kernels) ? 1 : 2;
}

/// Numbers of one layer, counted from the same shapes that the modules register.
struct LayerSizes {
  int64_t matrices = 0;     ///< weights of linear layers: each is one multiply-add per position
  int64_t vectors = 0;      ///< biases, norms and factors of residuals
  int64_t variant = 0;      ///< the variant's own parameters
  int64_t idle = 0;         ///< parameters of the experts that a position does not use
  int64_t activations = 0;  ///< float32 numbers kept per position for the backward pass, without the variant's own
  int64_t masks = 0;        ///< bytes per position: dropout masks, which its kernel makes again
};

/// F numbers that the feed-forward network keeps beyond what its linear layers put out: none where it has a kernel,
/// which makes them again.
int64_t activated(const ModelOptions& options, bool kernels) {
  if (kernels && width_multiple(options) == 1) return 0;
  if (is_gated(options.feed_forward)) return 2;   // the activated gate and the product
  return options.feed_forward == "relu" ? 0 : 1;  // ReLU's output says what its input was
}

/// Norms and factors around so many sublayers.
void add_residuals(const ModelOptions& options, int64_t sublayers, bool kernels, LayerSizes& sizes) {
  const int64_t M = options.model_dim;
  const auto& placement = options.norm_placement;
  const int64_t norms = placement == "both" ? 2 * sublayers : placement == "parallel" ? 1 : sublayers;
  sizes.vectors += norms * norm_size(options.norm, M, options.bias);
  sizes.activations += norms * norm_kept(options.norm, kernels) * M;
  if (placement == "both") sizes.activations += sublayers * M;  // the stream beside what the sublayers put out
  if (options.residual == "rezero") sizes.vectors += sublayers;
  if (options.residual == "layer_scale") sizes.vectors += sublayers * M;
  if (options.residual == "rezero" || options.residual == "layer_scale") sizes.activations += sublayers * M;
  if (options.dropout > 0 && !kernels) sizes.masks = sublayers * M;
}

/// The network, or the router and the experts that a position uses.
void add_feed_forward(const ModelOptions& options, bool kernels, LayerSizes& sizes) {
  const int64_t M = options.model_dim, F = options.ffn_dim.value(), E = options.experts;
  const int64_t inner = is_gated(options.feed_forward) ? 2 * F : F, K = E > 1 ? options.experts_per_token : 1;
  const int64_t matrices = M * inner + F * M, vectors = options.bias ? inner + M : 0;
  sizes.matrices += K * matrices;
  sizes.vectors += K * vectors;
  sizes.activations += K * (inner + M + activated(options, kernels) * F);
  if (E == 1) return;
  sizes.matrices += M * E;
  sizes.activations += 3 * E + K * 2 * M;  // logits, probabilities and a copy; what an expert reads, and its share
  sizes.idle = (E - K) * (matrices + vectors);
}

/// One mixer: the projections to keys and values apart from all else, as they may be of other positions.
/// @param queries, keys  added to
void add_mixer(const ModelOptions& options, const VariantInfo& variant, const Json& variant_options,
               const Geometry& geometry, bool rotary, bool kernels, LayerSizes& queries, LayerSizes& keys) {
  const int64_t M = options.model_dim, H = geometry.num_heads, G = geometry.num_kv_heads, D = geometry.head_dim;
  const int64_t bias = options.bias ? 1 : 0;
  const auto linear = [&](LayerSizes& sizes, int64_t in, int64_t out) {
    sizes.matrices += in * out;
    sizes.vectors += bias * out;
    sizes.activations += out;
  };
  queries.variant += variant.parameter_count(variant_options, geometry);
  if (variant.traits.contains(Trait::owns_projections)) {
    queries.activations += M;  // what it returns
    return;
  }
  linear(queries, M, H * D);
  linear(keys, M, 2 * G * D);
  for (const auto& gate : variant.gates(variant_options, geometry)) linear(queries, M, H * gate.width);
  linear(queries, H * D, M);
  queries.activations += H * D;  // the mixed values
  queries.vectors += 2 * norm_size(options.qk_norm, D, false);
  queries.activations += (rotary ? H * D : 0) + norm_kept(options.qk_norm, kernels) * H * D;
  keys.activations += (rotary ? G * D : 0) + norm_kept(options.qk_norm, kernels) * G * D;
}

/// What `model.head` puts between the blocks and the head's matrix.
LayerSizes head_sizes(const ModelOptions& options, bool kernels) {
  LayerSizes sizes;
  if (options.head != "reconstruct") return sizes;
  const int64_t M = options.model_dim;
  sizes.matrices = 2 * M * M;
  sizes.vectors = 2 * (norm_size(options.norm, M, options.bias) + (options.bias ? M : 0));
  sizes.activations =
      M + 2 * (norm_kept(options.norm, kernels) + 2) * M;  // the sum, and each layer's norm, product and GELU
  return sizes;
}

struct Totals {
  ParameterLedger parameters;
  double linear_flops = 0;                 ///< one window forward, all layers
  double head_flops = 0;                   ///< one output forward
  Cost attention;                          ///< one batch forward, all layers
  double block_flops = 0;                  ///< of linear_flops, what the blocks have
  int64_t blocks = 0;                      ///< parameters of the layers
  int64_t activations = 0, masks = 0;      ///< one window: float32 numbers, bytes
  int64_t idle = 0;                        ///< parameters that a position does not use
  int64_t largest_layer_bytes = 0;         ///< kept of one layer for the backward pass, one batch
  int64_t head_activations = 0;            ///< of `activations`, those that are no layer's
  std::optional<int64_t> state_bytes = 0;  ///< all layers, or none as soon as one of them keeps no state
};

void add_sizes(const LayerSizes& sizes, int64_t positions, Totals& totals) {
  totals.blocks += sizes.matrices + sizes.vectors + sizes.variant + sizes.idle;
  totals.idle += sizes.idle;
  totals.linear_flops += 2.0 * static_cast<double>(sizes.matrices) * static_cast<double>(positions);
  totals.activations += sizes.activations * positions;
  totals.masks += sizes.masks * positions;
}

/// What a model for `context` tokens reads: `batch` windows of the first `window` of them.
struct Reads {
  int64_t context, window, batch;
  bool kernels = false;  ///< whether norms, feed-forward networks and dropout have kernels, which keep less
};

/// One mixer of a layer, with what its variant does.
void add_attention(const ModelOptions& options, const AttentionChoice& attention, const Reads& reads, int64_t layer,
                   StackPlace place, Totals& totals) {
  const auto& choice = at_layer(attention, layer);
  const auto& variant = variant_named(choice.variant);
  const auto geometry = attention_geometry(options, reads.context, layer, place);
  const auto sizes = attention_sizes(options, reads.window, reads.batch, place);
  LayerSizes queries, keys;
  add_mixer(options, variant, choice.options, geometry, options.position == "rotary" && place != StackPlace::cross,
            reads.kernels, queries, keys);
  add_sizes(queries, sizes.queries, totals);
  add_sizes(keys, sizes.keys, totals);
  const auto cost = variant.cost(choice.options, geometry, sizes);
  totals.attention.algorithmic_flops += cost.algorithmic_flops;
  totals.attention.executed_flops += cost.executed_flops;
  totals.attention.activation_bytes += cost.activation_bytes;
  if (!variant.traits.contains(Trait::incremental)) totals.state_bytes.reset();
  else if (totals.state_bytes)
    *totals.state_bytes +=
        variant.cost(choice.options, geometry, {.batch = 1, .queries = sizes.queries, .keys = sizes.keys}).state_bytes;
}

/// The blocks of one stack.
void add_stack(const ModelOptions& options, const AttentionChoice& attention, const Reads& reads, StackPlace place,
               Totals& totals) {
  const bool crossed = options.head == "encoder_decoder" && place == StackPlace::main;
  const int64_t depth = place == StackPlace::encoder ? *options.encoder_depth : options.depth;
  LayerSizes rest;
  add_feed_forward(options, reads.kernels, rest);
  add_residuals(options, crossed ? 3 : 2, reads.kernels, rest);
  for (int64_t layer = 0; layer < depth; ++layer) {
    const auto kept = [&] {
      return reads.batch * (float_bytes * totals.activations + totals.masks) + totals.attention.activation_bytes;
    };
    const int64_t before = kept();
    add_attention(options, attention, reads, layer, place, totals);
    if (crossed) add_attention(options, attention, reads, layer, StackPlace::cross, totals);
    add_sizes(rest, attention_sizes(options, reads.window, reads.batch, place).queries, totals);
    totals.largest_layer_bytes = std::max(totals.largest_layer_bytes, kept() - before);
  }
}

Totals totals_of(const ModelOptions& options, const AttentionChoice& attention, const Reads& reads) {
  const int64_t M = options.model_dim, V = options.vocab_size.value(), E = options.embedding_dim.value();
  const bool encodes = options.head == "encoder_decoder";
  Totals totals;
  add_stack(options, attention, reads, StackPlace::main, totals);
  if (encodes) add_stack(options, attention, reads, StackPlace::encoder, totals);
  totals.block_flops = totals.linear_flops;
  const auto between = head_sizes(options, reads.kernels);
  totals.blocks += between.matrices + between.vectors;
  totals.head_activations = between.activations * reads.window;
  totals.activations += totals.head_activations;
  // A factorised embedding is a matrix product on the way in, and one more on the way out.
  const bool factorised = E != M;
  const int64_t head = V * E + (factorised ? E * M : 0), embedding = head;
  const int64_t embedded = reads.window + (encodes ? 1 : 0);  // the last input token is the decoder's first, too
  totals.linear_flops += 2.0 * static_cast<double>((factorised ? E * M : 0) * embedded);
  totals.head_flops = 2.0 * static_cast<double>(head + between.matrices);

  const int64_t stacks = encodes ? 2 : 1;
  const int64_t final_norm = *options.final_norm ? stacks * norm_size(options.norm, M, options.bias) : 0;
  const int64_t positions = options.position == "learned"    ? reads.context * M
                            : options.position == "relative" ? stacks * options.relative_buckets * options.num_heads
                                                             : 0;
  const int64_t embedding_norm = options.embedding_norm ? norm_size(options.norm, M, options.bias) : 0;
  auto& parameters = totals.parameters;
  parameters.non_embedding = totals.blocks + final_norm;
  parameters.without_input_embedding = parameters.non_embedding + head;
  parameters.total =
      parameters.non_embedding + embedding + positions + embedding_norm + (options.tie_embeddings ? 0 : head);
  parameters.active = parameters.total - totals.idle;
  parameters.standard_block = 12 * options.depth * M * M;
  return totals;
}

/// Of one training token.
FlopLedger ledger_of(const Totals& totals, const ModelOptions& options, const Reads& reads, bool checkpointing) {
  FlopLedger ledger;
  ledger.six_n = 6.0 * static_cast<double>(totals.parameters.non_embedding - totals.idle);
  ledger.six_n_with_head = 6.0 * static_cast<double>(totals.parameters.without_input_embedding - totals.idle);
  const double tokens = static_cast<double>(reads.batch * reads.window), window = static_cast<double>(reads.window);
  const double products =
      (totals.linear_flops + totals.head_flops * static_cast<double>(num_outputs(options, reads.window))) / window;
  ledger.algorithmic = 3 * (products + totals.attention.algorithmic_flops / tokens);
  ledger.executed = 3 * (products + totals.attention.executed_flops / tokens);
  if (checkpointing) ledger.executed += totals.block_flops / window + totals.attention.executed_flops / tokens;
  return ledger;
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

ModelCost model_cost(const ModelOptions& options, const AttentionChoice& attention, int64_t context, int64_t batch,
                     bool checkpointing, at::ScalarType products) {
  const Reads reads{context, context, batch, has_kernels(products)};
  const auto totals = totals_of(options, attention, reads);
  const int64_t M = options.model_dim, V = options.vocab_size.value(), positions = batch * context;
  const auto outputs = num_outputs(options, context);
  ModelCost cost;
  cost.parameters = totals.parameters;
  cost.flops_per_token = ledger_of(totals, options, reads, checkpointing);

  // Weights, gradients and two moments are 16 bytes a parameter. The most is held at the start of the backward pass:
  // all activations (the embedding's and the final norm's output beside the layers'), logits, log-probabilities and the
  // gradients of both.
  const int64_t embedding_norm = options.embedding_norm ? norm_kept(options.norm, reads.kernels) * M : 0;
  const int64_t numbers = 2 * M + embedding_norm;
  const int64_t masks = *options.embedding_dropout > 0 && !reads.kernels ? M : 0;
  const int64_t logits = batch * outputs * float_bytes * V;
  cost.training_bytes = 16 * totals.parameters.total + positions * (float_bytes * numbers + masks);
  if (checkpointing) {
    // Each layer's input; then the head's gradients, or later the logits alone beside one layer and its gradients.
    const int64_t layers = options.depth + options.encoder_depth.value_or(0);
    cost.training_bytes += float_bytes * (positions * layers * M + batch * totals.head_activations);
    cost.training_bytes += std::max(4 * logits, logits + totals.largest_layer_bytes);
  } else {
    cost.training_bytes += batch * (float_bytes * totals.activations + totals.masks) + 4 * logits;
    cost.training_bytes += totals.attention.activation_bytes;
  }
  if (has_logit_bias(options)) {
    // The masked bias of each layer, and for one that is trained the weights, which the fused kernel would not keep.
    const int64_t squares = options.position == "relative" ? batch + 1 : 1;
    cost.training_bytes +=
        float_bytes * (checkpointing ? 1 : options.depth) * options.num_heads * context * context * squares;
  }
  if (*options.causal && options.head != "encoder_decoder") cost.state_bytes = totals.state_bytes;
  return cost;
}

FlopLedger flops_in_window(const ModelOptions& options, const AttentionChoice& attention, int64_t context,
                           int64_t window, bool checkpointing) {
  const Reads reads{context, window, 1};
  return ledger_of(totals_of(options, attention, reads), options, reads, checkpointing);
}

double forward_flops(const ModelOptions& options, const AttentionChoice& attention, int64_t context, int64_t batch,
                     std::optional<int64_t> window) {
  const Reads reads{context, window.value_or(context), batch};
  const auto totals = totals_of(options, attention, reads);
  return totals.linear_flops * static_cast<double>(batch) +
         totals.head_flops * static_cast<double>(batch * num_outputs(options, reads.window)) +
         totals.attention.executed_flops;
}

}  // namespace attnscale
